import { openFolderObjects } from './folder-objects.js';

/** What a model store needs of where it is kept: a shared folder, or a bucket. */
export interface Objects {
  /** For people to read. */
  readonly name: string;
  /** Appears whole or not at all, and replaces one of that key. @param key segments separated by / */
  put(key: string, content: ObjectContent): Promise<void>;
  /** @throws UserError `not-found` when there is none of that key */
  get(key: string): Promise<AsyncIterable<Uint8Array>>;
}

export type ObjectContent = string | { file: string; bytes: number };

/**
 * @param store a folder that is there, or s3://BUCKET/PREFIX
 * @throws UserError `usage` for another scheme, or an address without a bucket; `not-found` for a folder that is not there
 */
export async function openObjects(store: string): Promise<Objects> {
  if (!/^\w+:\/\//.test(store)) return openFolderObjects(store);
  // Here and not above: most servers have no bucket, and the client is large.
  return (await import('./s3-objects.js')).openS3Objects(store);
}
