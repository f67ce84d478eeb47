import {
  AutoModel,
  AutoTokenizer,
  env,
  mean_pooling,
  type PreTrainedModel,
  type PreTrainedTokenizer,
  type Tensor,
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

/** Of length 1, as the server's are. */
async function embed(text: string): Promise<Float32Array> {
  const inputs = (await tokenizer([text], { truncation: true, max_length: served.maxTokens })) as Record<
    string,
    Tensor
  >;
  const { sentence_embedding: whole, last_hidden_state: hidden } = (await model(inputs)) as Record<
    string,
    Tensor | undefined
  >;
  // A folder with Dense modules has a graph that says the whole vector.
  const pooled =
    whole ??
    (served.pooling === 'mean' ? mean_pooling(hidden!, inputs.attention_mask) : hidden!.slice(null, 0));
  return pooled.normalize(2, -1).data as Float32Array;
}

addEventListener('message', async ({ data }: MessageEvent<ToWorker>) => {
  if ('load' in data) {
    served = data.load;
    const loader = new Loader(served.name, data.key, (loaded, total) => tell({ loaded, total }));
    try {
      await load(loader);
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
