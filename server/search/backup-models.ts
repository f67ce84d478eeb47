import { copyFile, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { exists, fileError, filesIn, sha256File } from '../../base/files.js';
import { trainedModelFolder, trainedModelsFolder, type Generation } from './store.js';

/** A file of a backup, by its path in there. */
export interface BackupFile {
  path: string;
  bytes: number;
  sha256: string;
}

/**
 * Copies the models that training jobs have made and that generations are of; those that --model names are whoever
 * started the server's to keep.
 *
 * @throws UserError `unavailable` when one that is live is not there: it was replaced after the database was copied
 */
export async function copyModels(
  dataDir: string,
  generations: readonly Pick<Generation, 'model' | 'job' | 'state'>[],
  out: string,
): Promise<BackupFile[]> {
  const files: BackupFile[] = [];
  for (const { model, job, state } of generations) {
    // A database of an earlier version has no such column.
    if (typeof job !== 'number') continue;
    const from = trainedModelFolder(dataDir, model);
    if (!(await exists(from))) {
      if (state !== 'live') continue;
      throw new UserError(
        'unavailable',
        `${from}: expected the model that is live, found none: another one was activated meanwhile. Run it again`,
      );
    }
    for (const file of await filesIn(from)) {
      const to = path.join(trainedModelFolder(out, model), file);
      await copyDurably(path.join(from, file), to);
      files.push({
        path: path.relative(out, to),
        bytes: (await stat(to)).size,
        sha256: await sha256File(to),
      });
    }
  }
  return files;
}

/** Puts a backup's models in the place of those that are there, once all are copied. */
export async function restoreModels(
  from: string,
  dataDir: string,
  files: readonly BackupFile[],
): Promise<void> {
  const beside = path.join(dataDir, '.models-restored.partial');
  await rm(beside, { recursive: true, force: true });
  for (const { path: file } of files)
    await copyDurably(path.join(from, file), path.join(beside, path.relative(trainedModelsFolder(''), file)));
  await rm(trainedModelsFolder(dataDir), { recursive: true, force: true });
  if (files.length > 0) await rename(beside, trainedModelsFolder(dataDir));
}

async function copyDurably(from: string, to: string): Promise<void> {
  try {
    await mkdir(path.dirname(to), { recursive: true });
    await copyFile(from, to);
    const handle = await open(to, 'r+');
    await handle.sync().finally(() => handle.close());
  } catch (error) {
    throw fileError(error, to, 'write');
  }
}
