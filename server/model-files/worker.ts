import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { exists, sha256File } from '../../base/files.js';
import { folderGraph } from '../../encoder/graph-file.js';
import { openModelFolder, type ModelFolder } from '../../encoder/model-folder.js';
import { answerCalls, giveWay } from '../threads.js';

export interface ModelFile {
  /** Where it is. */
  file: string;
  /** SHA-256, lower-case hex. */
  digest: string;
}

/** What transformers.js reads beside a graph. */
const SETTINGS = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'vocab.txt',
];

/** The fp32 graph: the folder's own, or one that is built of its weights. */
async function graphOf(folder: ModelFolder): Promise<string | undefined> {
  // One that is built ends at the hidden states, and would leave the Dense modules out.
  if (folder.dense.length > 0) return folder.graphs.fp32;
  try {
    return (await folderGraph(folder, 'fp32')).file;
  } catch (error) {
    if (error instanceof UserError && error.kind === 'unsupported-model') return undefined;
    throw error;
  }
}

const handlers = {
  async find(dir: string): Promise<[name: string, file: ModelFile][]> {
    const folder = await openModelFolder(dir);
    const files = [
      ...SETTINGS.map((name) => [name, path.join(dir, name)] as const),
      ['onnx/model.onnx', await graphOf(folder)] as const,
      ['onnx/model_quantized.onnx', folder.graphs.quantized] as const,
    ];
    const found: [string, ModelFile][] = [];
    for (const [name, file] of files)
      if (file !== undefined && (await exists(file)))
        found.push([name, { file, digest: await sha256File(file) }]);
    return found;
  },
};

export type FilesHandlers = typeof handlers;

// Requests in flight must not wait for somebody's download.
giveWay();
answerCalls(handlers);
