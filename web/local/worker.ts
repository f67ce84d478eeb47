import {
  AutoModel,
  AutoTokenizer,
  env,
  mean_pooling,
  type PreTrainedModel,
  type PreTrainedTokenizer,
  Tensor,
} from '@xenova/transformers';
import wasmUrl from 'onnxruntime-web/ort-wasm-simd-threaded.wasm?url';

import { filesOf, Loader } from './loader.js';
import type { FromWorker, ServedModel, ToWorker } from './messages.js';

// In a worker the page stays quick while WebAssembly is compiled and a model computes.

let model: PreTrainedModel;
let tokenizer: PreTrainedTokenizer;
let served: ServedModel;

const tell = (message: FromWorker): void => postMessage(message);

async function load(loader: Loader): Promise<void> {
  // All comes from this server, each time as it is there: the library's own cache would keep a model that was replaced.
  Object.assign(env, { allowLocalModels: true, allowRemoteModels: false, useBrowserCache: false });
  Object.assign(env, { useWasmCache: false, localModelPath: '', fetch: loader.fetch });
  const { wasm } = env.backends.onnx;
  // Several threads would want a page that is isolated from other origins.
  Object.assign(wasm!, { wasmPaths: undefined, numThreads: 1 });
  await loader.expect([wasmUrl, ...filesOf(served.name)]);
  wasm!.wasmBinary = await (await loader.fetch(wasmUrl)).arrayBuffer();
  [tokenizer, model] = await Promise.all([
    AutoTokenizer.from_pretrained(loader.folder),
    AutoModel.from_pretrained(loader.folder, { dtype: 'fp32', device: 'wasm' }),
  ]);
}

/**
 * The library would cut a long text off with its last token, [SEP]; the server, as others do, cuts before that one.
 *
 * @param tensor 1 x n
 */
function cut(tensor: Tensor, length: number): Tensor {
  const all = tensor.data as BigInt64Array;
  if (all.length <= length) return tensor;
  const kept = all.slice(0, length);
  kept[length - 1] = all.at(-1)!;
  return new Tensor('int64', kept, [1, length]);
}

/** Of length 1, as the server's are. */
async function embed(text: string): Promise<Float32Array> {
  const whole = (await tokenizer([text])) as Record<string, Tensor>;
  const inputs = Object.fromEntries(
    Object.entries(whole).map(([name, tensor]) => [name, cut(tensor, served.maxTokens)]),
  );
  const { sentence_embedding: all, last_hidden_state: hidden } = (await model(inputs)) as Record<
    string,
    Tensor | undefined
  >;
  // A folder with Dense modules has a graph that says the whole vector.
  const pooled =
    all ??
    (served.pooling === 'mean' ? mean_pooling(hidden!, inputs.attention_mask) : hidden!.slice(null, 0));
  return pooled.normalize(2, -1).data as Float32Array;
}

addEventListener('message', async ({ data }: MessageEvent<ToWorker>) => {
  if ('load' in data) {
    served = data.load;
    const loader = new Loader(served.name, data.key, (loaded, total) => tell({ loaded, total }));
    try {
      await load(loader);
      // The first run is slower than all others: WebAssembly is still being compiled.
      await embed(' ');
      tell({ ready: true });
    } catch (error) {
      // The library says only that a file is missing; the server said why.
      const { status, message } = loader.refusal ?? { status: 0, message: (error as Error).message };
      tell({ failed: message, unauthorized: status === 401 });
    }
    return;
  }
  const { call } = data;
  try {
    const start = performance.now();
    const vector = await embed(data.embed);
    tell({ call, vector, ms: performance.now() - start });
  } catch (error) {
    tell({ call, error: (error as Error).message });
  }
});
