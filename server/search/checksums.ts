import { crc32 } from 'node:zlib';

import { UserError } from '../../base/errors.js';

/**
 * SQLite finds pages that make no sense, but not a bit that changed within a text or a vector: each row carries a CRC-32
 * of its own, compared wherever the row is read.
 */
export interface CheckedDocument {
  id: string;
  text: string;
  /** JSON. */
  metadata: string | null;
  checksum: number;
}

export function documentChecksum({ id, text, metadata }: Omit<CheckedDocument, 'checksum'>): number {
  return crc32(JSON.stringify([id, text, metadata]));
}

/** Begins with the key, so that a vector is known to be that document's. */
export function vectorChecksum(key: number, blob: Uint8Array): number {
  return crc32(blob, key);
}

export interface CheckedVector {
  key: number;
  /** Little-endian float32. */
  vector: Uint8Array;
  checksum: number;
}

export function isWholeDocument(row: CheckedDocument): boolean {
  return row.checksum === documentChecksum(row);
}

export function isWholeVector({ key, vector, checksum }: CheckedVector, dimensions: number): boolean {
  // What is damaged may be of another type as well.
  const isOne = vector instanceof Uint8Array && vector.length === 4 * dimensions;
  return isOne && checksum === vectorChecksum(key, vector);
}

/** @throws UserError `corrupt` */
export function checkDocument(file: string, row: CheckedDocument): void {
  if (!isWholeDocument(row)) throw damaged(file, `document ${JSON.stringify(row.id)}`);
}

/** @throws UserError `corrupt` */
export function checkVector(file: string, row: CheckedVector, dimensions: number): void {
  if (!isWholeVector(row, dimensions)) throw damaged(file, `the vector of key ${row.key}`);
}

function damaged(file: string, what: string): UserError {
  return new UserError('corrupt', `${file}: ${what} is damaged. Restore the collection from a backup`);
}
