import path from 'node:path';

import { exists } from './files.js';

/** In a training's own folder, what names the files of its last checkpoint. */
export const CHECKPOINT = 'checkpoint.json';

/** Where a training that makes a model folder keeps its checkpoints, log, TensorBoard events and report. */
export function runFolderOf(out: string): string {
  return `${path.resolve(out)}.training`;
}

/** Whether a training can go on: one that was ended before its first checkpoint begins again. */
export function hasCheckpoint(out: string): Promise<boolean> {
  return exists(path.join(runFolderOf(out), CHECKPOINT));
}
