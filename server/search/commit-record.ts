import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { crc32 } from 'node:zlib';

import { UserError } from '../../base/errors.js';
import { fileError } from '../../base/files.js';

export function commitRecordFile(database: string): string {
  return path.join(path.dirname(database), 'collection.commits');
}

/** 0 when there is none, or it can't be read: it only ever tells of more than the database has. */
export function readCommitRecord(file: string): number {
  try {
    const [count, checksum] = readFileSync(file, 'utf8').split(' ');
    return Number(checksum) === crc32(count) ? Number(count) : 0;
  } catch {
    return 0;
  }
}

/** @throws UserError `corrupt` when the database lacks commits that were answered */
export function checkCommits(database: string, recorded: number, found: number): void {
  if (found < recorded)
    throw new UserError(
      'corrupt',
      `${database}: the last ${recorded - found} commits that were answered are not in it: it is an older file, or its write-ahead log was cut off or damaged. Restore it from a backup, or remove ${commitRecordFile(database)} to go on without them`,
    );
}

/**
 * How many commits were answered, in a small file beside the database. A write-ahead log that was cut off or damaged
 * looks to SQLite like one that ends earlier, and answered writes would be gone without a word.
 *
 * It is written behind each commit and not fsynced: after a power cut it may be behind the database, but never ahead.
 */
export class CommitRecord {
  private readonly descriptor: number;

  /** @throws UserError `unavailable` */
  constructor(file: string) {
    try {
      // 'a' makes it where there is none, but writes only at the end.
      closeSync(openSync(file, 'a'));
      this.descriptor = openSync(file, 'r+');
    } catch (error) {
      throw fileError(error, file, 'write');
    }
  }

  write(count: number): void {
    const padded = String(count).padStart(16, '0');
    try {
      // In place and always as long: it takes no room on a full disk.
      writeSync(this.descriptor, `${padded} ${String(crc32(padded)).padStart(10, '0')} `, 0);
    } catch {
      // What is committed is durable without it.
    }
  }

  close(): void {
    closeSync(this.descriptor);
  }
}
