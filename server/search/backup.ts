import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { fileError, readJson, sha256File, writeFileAtomic, writeFolderAtomic } from '../../base/files.js';
import { version } from '../../base/paths.js';
import { Sqlite } from '../../base/sqlite.js';
import { copyModels, restoreModels, type BackupFile } from './backup-models.js';
import { inspect, openForReading, refuseProblems } from './inspect.js';
import { lockFolder } from './lock.js';
import { SCHEMA_VERSION, sqliteError } from './schema.js';
import { databaseFile } from './store.js';

/** backup.json, beside the database. */
export interface BackupManifest {
  version: 1;
  /** Of the program that made it. */
  program: string;
  created: string;
  schema: number;
  documents: number;
  /** Whose vectors are live; none in a collection that no server has opened. */
  model?: string;
  database: { bytes: number; sha256: string };
  /** Of models that training jobs have made. */
  models?: BackupFile[];
}

type OnProgress = (done: number, total: number) => void;

export const BACKUP_MANIFEST = 'backup.json';
/** Copied at a time; in between the program can stop, and shows how far it is. */
const PAGES = 64;

/**
 * Copies a collection as it is at one moment into a folder that appears when it is complete. The server goes on
 * reading and writing meanwhile; every write that was answered before this was called is in the copy. The index is
 * left out: it is derived, and made again at the first start. Models that training jobs have made are copied as well.
 *
 * @param onProgress pages of the database
 * @throws UserError `exists` for a folder that is not empty; `corrupt` when the collection is not whole
 */
export async function backUp(dataDir: string, out: string, onProgress?: OnProgress): Promise<BackupManifest> {
  const source = openForReading(databaseFile(dataDir));
  let manifest: BackupManifest | undefined;
  try {
    await writeFolderAtomic(out, async (folder) => {
      const copy = databaseFile(folder);
      await copyDatabase(source, copy, onProgress);
      const found = inspect(copy);
      refuseProblems(databaseFile(dataDir), found.problems);
      manifest = {
        version: 1,
        program: version,
        created: new Date().toISOString(),
        schema: found.schema,
        documents: found.documents,
        model: found.generations.find(({ state }) => state === 'live')?.model,
        database: { bytes: (await stat(copy)).size, sha256: await sha256File(copy) },
        models: await copyModels(dataDir, found.generations, folder),
      };
      await writeFileAtomic(path.join(folder, BACKUP_MANIFEST), JSON.stringify(manifest, null, 2) + '\n');
    });
  } finally {
    source.close();
  }
  return manifest!;
}

async function copyDatabase(
  source: ReturnType<typeof openForReading>,
  copy: string,
  onProgress?: OnProgress,
): Promise<void> {
  try {
    // A transaction that is open for the whole time holds the moment; without it SQLite would begin again at every
    // write of the server, and come to no end while there are many.
    source.exec('BEGIN');
    source.prepare('SELECT count(*) FROM generations').get();
    await source.backup(copy, {
      progress({ totalPages, remainingPages }) {
        onProgress?.(totalPages - remainingPages, totalPages);
        return PAGES;
      },
    });
    source.exec('COMMIT');
    const db = new Sqlite(copy);
    // One file, which can be read where nothing can be written. A server makes it WAL again.
    db.pragma('journal_mode = DELETE');
    db.close();
    const handle = await open(copy, 'r');
    await handle.sync().finally(() => handle.close());
  } catch (error) {
    throw sqliteError(copy, error);
  }
}

/**
 * Whether a backup is what it was when it was made.
 *
 * @throws UserError `not-found` where there is none, `corrupt`, `invalid` for a later version's
 */
export async function checkBackup(folder: string): Promise<BackupManifest> {
  const manifest = await readJson<BackupManifest>(path.join(folder, BACKUP_MANIFEST)).catch(
    (error: unknown) => {
      if (!(error instanceof UserError && error.kind === 'not-found')) throw error;
      throw new UserError('not-found', `${folder}: expected a backup (with ${BACKUP_MANIFEST}), found none`);
    },
  );
  if (manifest.version !== 1 || manifest.schema > SCHEMA_VERSION)
    throw new UserError(
      'invalid',
      `${folder}: made by a later version of sentence-jepa (${manifest.program}, schema ${manifest.schema}; this one knows up to ${SCHEMA_VERSION}). Update sentence-jepa`,
    );
  await checkFile(databaseFile(folder), manifest.database);
  for (const file of manifest.models ?? []) await checkFile(path.join(folder, file.path), file);
  return manifest;
}

async function checkFile(file: string, { bytes, sha256 }: Omit<BackupFile, 'path'>): Promise<void> {
  const { size } = await stat(file).catch((error: unknown) => {
    throw fileError(error, file, 'read');
  });
  if (size !== bytes) throw damaged(file, `${bytes} bytes`, `${size}`);
  const found = await sha256File(file);
  if (found !== sha256) throw damaged(file, `SHA-256 ${sha256.slice(0, 12)}…`, `${found.slice(0, 12)}…`);
}

/**
 * Puts a backup's collection into a data folder, in one rename, after the models. Stopped before its end it is to be run
 * again.
 *
 * @param options.force replace the collection that is there
 * @param options.onProgress bytes
 * @throws UserError as checkBackup does; `exists` when the folder has a collection and not `force`; `unavailable` while
 *   a server has it open
 */
export async function restore(
  from: string,
  dataDir: string,
  { force = false, onProgress }: { force?: boolean; onProgress?: OnProgress } = {},
): Promise<BackupManifest> {
  const manifest = await checkBackup(from);
  await mkdir(dataDir, { recursive: true }).catch((error: unknown) => {
    throw fileError(error, dataDir, 'write');
  });
  const unlock = lockFolder(dataDir);
  try {
    const target = databaseFile(dataDir);
    if (existsSync(target)) {
      if (!force)
        throw new UserError(
          'exists',
          `${dataDir}: holds a collection already; name another --data-dir, or replace it with --force`,
        );
      finishLog(target);
    }
    await restoreModels(from, dataDir, manifest.models ?? []);
    await removeDerived(dataDir);
    await writeFileAtomic(target, checked(databaseFile(from), manifest, onProgress));
  } finally {
    unlock();
  }
  return manifest;
}

/** Brings what is in the write-ahead log into the database, so that removing the log loses nothing. */
function finishLog(file: string): void {
  try {
    const db = new Sqlite(file);
    db.pragma('wal_checkpoint(TRUNCATE)');
    db.close();
  } catch {
    // A damaged one is what a backup is for.
  }
}

/**
 * What belongs to the database that is replaced: its log, its commits, indexes whose keys would mean other documents, data
 * of jobs.
 */
export async function removeDerived(dataDir: string): Promise<void> {
  const derived =
    /^(collection\.(sqlite-(wal|shm)|commits)|index\.json|hnsw-.*\.bin|\.(hnsw|index|collection).*\.partial|generations|jobs)$/;
  for (const name of await readdir(dataDir))
    if (derived.test(name)) await rm(path.join(dataDir, name), { recursive: true, force: true });
}

/** A file's bytes; throws at their end unless they are the manifest's. */
async function* checked(
  file: string,
  { database }: BackupManifest,
  onProgress?: OnProgress,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
    yield chunk;
    onProgress?.(bytes, database.bytes);
  }
  if (hash.digest('hex') !== database.sha256) throw damaged(file, 'what was checked', 'other bytes');
}

function damaged(file: string, expected: string, found: string): UserError {
  return new UserError(
    'corrupt',
    `${file}: expected ${expected}, found ${found}: it was changed or cut off since the backup. Use another backup`,
  );
}
