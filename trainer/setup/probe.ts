import { tryModule } from '../../base/try-module.js';
import { openPackage } from '../tensorflow/open-package.js';

/**
 * Loads the tfjs-node in the folder named as the first argument, computes with the tfjs API and with a
 * kernel called by its name. For a process of its own (see tryModule).
 */
function probe(folder: string): void {
  const tf = openPackage(folder, 1);
  const product = tf.matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.tensor2d([5, 6, 7, 8], [2, 2])).dataSync();
  if (product.join() !== '19,22,43,50') throw new Error(`a 2 x 2 product came out as ${product.join()}`);
  const backend = tf.backend();
  const { binding } = backend;
  const type = (name: string, value: number) => ({ name, type: binding.TF_ATTR_TYPE, value });
  const [output] = binding.executeOp(
    'StatelessRandomUniform',
    [type('dtype', binding.TF_FLOAT), type('T', binding.TF_INT32), type('Tseed', binding.TF_INT32)],
    backend.getInputTensorIds([tf.tensor1d([2, 3], 'int32'), tf.tensor1d([1, 2], 'int32')]),
    1,
  );
  const values = binding.tensorDataSync(output.id);
  if (values.length !== 6 || !values.every((value) => value >= 0 && value < 1))
    throw new Error(`uniform numbers came out as ${values.join()}`);
}

await tryModule(() => probe(process.argv[2]));
