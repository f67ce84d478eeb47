import path from 'node:path';

import { exists, sha256File } from '../base/files.js';
import { folderGraph } from './graph-file.js';
import { GRAPH_FILES, SETTINGS_FILES, WEIGHTS_FILE } from './model-files.js';
import { denseFiles, loadWeights, type ModelFolder } from './model-folder.js';
import { loadTokenizer } from './tokenizer.js';
import { bertGraph } from './onnx/bert-graph.js';
import { cosines } from './pooling.js';
import { openEncoderSession } from './session.js';

export interface Verification {
  /** Files of a complete model folder that are not there; what is needed of them is built. */
  missing: string[];
  /** SHA-256 of the files that decide a vector. */
  digests: Record<string, string>;
  /** Tensors in model.safetensors that are there, of the right shape and finite; 0 without the file. */
  tensors: number;
  /** Least cosine of onnx/model.onnx to a graph built from model.safetensors; when both are there. */
  fp32Cosine?: number;
  /** Cosine of the quantized graph to the fp32 one. */
  quantizedCosine?: { mean: number; least: number };
  /** What is wrong, a sentence each. Empty: all is well. */
  problems: string[];
}

/** Below this two fp32 graphs do not compute the same (docs/ARCHITECTURE.md, the model folder). */
const SAME = 0.99999;

/** Of all lengths from one word to the limit. */
const TEXTS = [
  'ubuntu',
  'How do I install a package without root?',
  'The wireless network is slow after the last upgrade, what can I do?',
  'Boot problem: "no such device" - grub rescue, error 15 (kernel 5.4)',
  'sudo apt-get install -f /dev/sda1 || echo $?',
  'Größe der Partition ändern, ohne Daten zu verlieren',
  'screen sound panel '.repeat(20),
  'where is the file and how can a user move it to another drive? '.repeat(100),
];

/**
 * Checks a model folder whole: files, tensors, graphs, and that the graphs compute what the tensors say.
 *
 * @throws UserError naming file, tensor, expected and found, for a folder that can't be used at all
 */
export async function verifyModel(folder: ModelFolder): Promise<Verification> {
  const there = async (file: string): Promise<boolean> => exists(path.join(folder.dir, file));
  const missing: string[] = [];
  const digests: Record<string, string> = {};
  const dense = await denseFiles(folder.dir);
  for (const file of [...SETTINGS_FILES, ...dense, WEIGHTS_FILE, ...GRAPH_FILES])
    if (!(await there(file))) missing.push(file);
  for (const file of ['tokenizer.json', ...dense, WEIGHTS_FILE, ...GRAPH_FILES])
    if (!missing.includes(file)) digests[file] = await sha256File(path.join(folder.dir, file));

  const tokenizer = loadTokenizer(folder);
  const sequences = TEXTS.map((text) => tokenizer.encode(text));
  const vectorsOf = async (graph: string | Uint8Array): Promise<Float32Array[]> => {
    const { hiddenSize } = folder.config;
    const session = await openEncoderSession(graph, { ...folder, hiddenSize, threads: 1 });
    try {
      const vectors: Float32Array[] = [];
      for (const sequence of sequences) vectors.push(await session.encodeTokens([sequence]));
      return vectors;
    } finally {
      await session.close();
    }
  };

  const problems: string[] = [];
  const report: Verification = { missing, digests, tensors: 0, problems };
  let exact: Float32Array[] | undefined;
  if (folder.weightsFile) {
    const weights = await loadWeights(folder);
    report.tensors = weights.size;
    exact = await vectorsOf(Buffer.concat(bertGraph(folder.config, weights, 'fp32')));
  }
  if (folder.graphs.fp32) {
    const vectors = await vectorsOf(folder.graphs.fp32);
    if (exact) {
      report.fp32Cosine = Math.min(...rowCosines(vectors, exact));
      if (!(report.fp32Cosine > SAME))
        problems.push(
          `${folder.graphs.fp32}: expected the vectors of model.safetensors (cosine above ${SAME}), found a cosine of ${report.fp32Cosine.toFixed(6)}`,
        );
    }
    exact ??= vectors;
  }
  if (exact && (folder.graphs.quantized || folder.weightsFile)) {
    const { file } = await folderGraph(folder, 'quantized');
    const found = rowCosines(await vectorsOf(file), exact);
    const mean = found.reduce((sum, cosine) => sum + cosine, 0) / found.length;
    report.quantizedCosine = { mean, least: Math.min(...found) };
    if (found.some(Number.isNaN)) problems.push(`${file}: expected finite vectors, found NaN`);
  }
  return report;
}

/** The cosine of each pair of rows. */
function rowCosines(a: Float32Array[], b: Float32Array[]): number[] {
  return a.flatMap((row, i) => cosines(row, b[i], 1));
}
