import path from 'node:path';

import { messageOf, UserError } from '../base/errors.js';
import { writeFileAtomic } from '../base/files.js';
import { GRAPH_FILES, SETTINGS_FILES, WEIGHTS_FILE } from './model-files.js';
import { denseFiles } from './model-folder.js';

/** Called with how many bytes of a file are here; `total` is 0 while it is not known. */
export type FetchProgress = (what: string, done: number, total: number) => void;

export interface FetchOptions {
  onProgress?: FetchProgress;
  signal?: AbortSignal;
}

/** A closed network often swallows a connection instead of refusing it. */
const CONNECT_MS = 10_000;
const STALL_MS = 60_000;

/**
 * Fetches a model's files from the Hugging Face Hub, whose address is transformers.js' own (`env.remoteHost`).
 *
 * @param repository ORGANIZATION/NAME
 * @throws UserError `unavailable` when the hub can't be reached; `not-found` when it has no such model
 */
export async function fetchFromHub(
  repository: string,
  folder: string,
  options: FetchOptions = {},
): Promise<void> {
  const get = (file: string): Promise<boolean> => fetchFile(repository, file, folder, options);
  if (!(await get('config.json')))
    throw new UserError(
      'not-found',
      `${repository}: the Hugging Face Hub has no such model, or it is not public`,
    );
  for (const file of SETTINGS_FILES) if (file !== 'config.json') await get(file);
  for (const file of await denseFiles(folder)) await get(file);
  if (await get(WEIGHTS_FILE)) return;
  for (const file of GRAPH_FILES) await get(file);
}

/** @returns false when the repository has no such file */
async function fetchFile(
  repository: string,
  file: string,
  folder: string,
  { onProgress, signal }: FetchOptions,
): Promise<boolean> {
  // Here and not above: it brings an inference runtime, which a process that has no model to fetch does without.
  const { env } = await import('@xenova/transformers');
  const where = env.remotePathTemplate.replace('{model}', repository).replace('{revision}', 'main');
  const url = new URL(`${where}${file}`, env.remoteHost);
  const stalled = new AbortController();
  let timer = setTimeout(() => stalled.abort(), CONNECT_MS);
  const alive = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => stalled.abort(), STALL_MS);
  };
  try {
    const response = await fetch(url, {
      signal: signal ? AbortSignal.any([stalled.signal, signal]) : stalled.signal,
    });
    // The hub answers 401 for a repository that does not exist.
    if ([401, 403, 404].includes(response.status)) {
      await response.body?.cancel();
      return false;
    }
    if (!response.ok || !response.body) throw new Error(`it answers ${response.status}`);
    const total = Number(response.headers.get('content-length') ?? 0);
    let done = 0;
    const body = response.body as AsyncIterable<Uint8Array>;
    const counted = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of body) {
        alive();
        yield chunk;
        done += chunk.length;
        onProgress?.(file, done, total);
      }
    };
    await writeFileAtomic(path.join(folder, file), counted());
    return true;
  } catch (error) {
    signal?.throwIfAborted();
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const reason = stalled.signal.aborted ? 'no answer in time' : messageOf(cause);
    throw new UserError('unavailable', `the Hugging Face Hub can't be reached (${file}: ${reason})`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}
