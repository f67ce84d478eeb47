import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { AutoModel, AutoTokenizer, env, pipeline } from '@xenova/transformers';

import { messageOf } from '../base/errors.js';
import { projectRoot } from '../base/paths.js';
import { loadWeights, type ModelFolder, openModelFolder } from '../encoder/model-folder.js';
import { loadTokenizer } from '../encoder/tokenizer.js';
import { openEncoder } from '../encoder/open-encoder.js';
import type { Precision } from '../encoder/graph-file.js';
import { PRESETS } from '../trainer/presets.js';
import { openTrainable } from '../trainer/tensorflow/trainable-bert.js';
import { tensorFlowEncoder } from '../trainer/tensorflow-encoder.js';
import { completeFolder } from './complete-folder.js';
import { leastAndMeanCosine } from './cosine.js';
import { BenchProcess } from './processes.js';
import { markdownTable } from './report.js';

export interface ParityOptions {
  model: ModelFolder;
  texts: readonly string[];
  /** A Python with sentence-transformers. */
  python?: string;
}

/** Cosines to the vectors of our encoder in fp32. */
export interface ParityRow {
  runtime: string;
  cosine?: { least: number; mean: number };
  /** Why there are none. */
  skipped?: string;
}

type Vectors = (texts: readonly string[], folder: string) => Promise<Float32Array>;

/** The same texts through the same model folder in every runtime that reads it. */
export async function benchParity({ model, texts, python }: ParityOptions): Promise<ParityRow[]> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-parity-'));
  try {
    const folder = await completeFolder(model, scratch);
    const ours = await withEncoder('fp32')(texts, folder);
    const runtimes: [string, Vectors][] = [
      ['our encoder, int8', withEncoder('int8')],
      ['our encoder, quantized', withEncoder('quantized')],
      ["our trainer's forward pass, fp32", withTrainer],
      ['transformers.js, fp32', withTransformersJs(model)],
      ['sentence-transformers, fp32', withSentenceTransformers(python)],
    ];
    const rows: ParityRow[] = [];
    for (const [runtime, vectorsOf] of runtimes)
      rows.push({
        runtime,
        ...(await vectorsOf(texts, folder).then(
          (vectors) => ({ cosine: leastAndMeanCosine(ours, vectors, texts.length) }),
          (error: unknown) => ({ skipped: messageOf(error) }),
        )),
      });
    return rows;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

export function parityTable(rows: readonly ParityRow[]): string {
  return markdownTable(
    ['against our encoder in fp32', 'least cosine', 'mean cosine', ''],
    rows.map(({ runtime, cosine, skipped = '' }) => [
      runtime,
      cosine?.least.toFixed(7) ?? '',
      cosine?.mean.toFixed(7) ?? '',
      skipped.split('\n')[0],
    ]),
  );
}

function withEncoder(precision: Precision): Vectors {
  return async (texts, folder) => {
    const encoder = await openEncoder(folder, { precision });
    return encoder.encode(texts).finally(() => encoder.close());
  };
}

async function withTrainer(texts: readonly string[], dir: string): Promise<Float32Array> {
  const folder = await openModelFolder(dir);
  const { config, pooling } = folder;
  const recipe = { ...PRESETS.vicreg, expander: [1], precision: 'fp32' as const };
  const trainable = await openTrainable({ config, weights: await loadWeights(folder), pooling, recipe });
  const encoder = tensorFlowEncoder(trainable, loadTokenizer(folder), folder);
  return encoder.encode(texts).finally(() => trainable.dispose());
}

function withTransformersJs({ pooling, dense, normalize }: ModelFolder): Vectors {
  return async (texts, folder) => {
    const allowed = env.allowRemoteModels;
    env.allowRemoteModels = false;
    const options = { dtype: 'fp32', device: 'cpu' } as const;
    const rows: number[] = [];
    try {
      // The pipeline pools, and knows nothing of Dense modules; the graph does.
      if (dense.length > 0) {
        const tokenizer = await AutoTokenizer.from_pretrained(folder);
        const model = await AutoModel.from_pretrained(folder, options);
        for (const text of texts) {
          const inputs: unknown = await tokenizer(text, { truncation: true });
          const { sentence_embedding } = (await model(inputs)) as Record<string, { data: Float32Array }>;
          rows.push(...sentence_embedding.data);
        }
        await model.dispose();
      } else {
        const extract = await pipeline('feature-extraction', folder, options);
        for (const text of texts)
          rows.push(...((await extract(text, { pooling, normalize })).tolist() as number[][]).flat());
        await extract.dispose();
      }
      return Float32Array.from(rows);
    } finally {
      env.allowRemoteModels = allowed;
    }
  };
}

function withSentenceTransformers(python: string | undefined): Vectors {
  return async (texts, folder) => {
    if (!python) throw new Error('not asked for: --python names a Python that has it');
    const script = path.join(projectRoot, 'bench/peers/st_embed.py');
    const peer = new BenchProcess('sentence-transformers', python, [script, folder]);
    try {
      const { vectors } = JSON.parse(await peer.ask(JSON.stringify(texts))) as { vectors: string };
      return new Float32Array(new Uint8Array(Buffer.from(vectors, 'base64')).buffer);
    } finally {
      await peer.stop();
    }
  };
}
