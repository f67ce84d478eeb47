import { isDeepStrictEqual } from 'node:util';

import { UserError } from '../../base/errors.js';
import type { Generation } from '../search/store.js';
import { digestsOf, type PartDigest } from './digests.js';
import type { TransferSource, TransferTarget } from './stores.js';
import { contentsOf, countRows, sync, type OnProgress } from './sync.js';

export interface TransferReport {
  /** Of the source as it was when it was last looked at. */
  source: PartDigest[];
  target: PartDigest[];
  isEqual: boolean;
  /** Equal, no server had the source open, no documents wait there, and the target is a collection. */
  isFinished: boolean;
  /** Documents that were added and removed since the first pass, which took the longest; without one, 0. */
  changedMeanwhile: number;
  live?: Generation;
  /** Jobs that have not ended, and are not taken along. */
  jobsLeft: number;
  /** Documents that wait in the source to be embedded. */
  waiting: number;
}

export interface TransferOptions {
  /** @param what `copying`, `copying what changed` or `comparing`; of rows */
  onProgress?: (what: string, ...progress: Parameters<OnProgress>) => void;
}

/**
 * Copies a collection, and finishes when nothing can have been written to it since. While a server has it open a first pass
 * copies it as it is at one moment, and a second one, much shorter, what changed until then; what is written later is for the
 * next call, when the server has been stopped. Cut off anywhere, another call goes on.
 */
export async function transfer(
  source: TransferSource,
  target: TransferTarget,
  { onProgress }: TransferOptions = {},
): Promise<TransferReport> {
  let isHeld = await source.hold();
  const isSecond = !isHeld;
  if (isSecond) {
    await source.snapshot((from) => sync(from, target.store, (...at) => onProgress?.('copying', ...at)));
    isHeld = await source.hold();
  }
  const report = await source.snapshot(async (from) => {
    const what = isSecond ? 'copying what changed' : 'copying';
    const { added, removed } = await sync(from, target.store, (...at) => onProgress?.(what, ...at));
    const { generations, jobsLeft } = await contentsOf(from);
    const total = 2 * (await countRows(from, generations));
    let done = 0;
    const pass = (rows: number): void => onProgress?.('comparing', (done += rows), total);
    const [ofSource, ofTarget] = await Promise.all([digestsOf(from, pass), digestsOf(target.store, pass)]);
    const isEqual = isDeepStrictEqual(ofSource, ofTarget);
    const waiting = await from.waiting();
    return {
      ...{ source: ofSource, target: ofTarget, isEqual, jobsLeft, waiting },
      isFinished: isEqual && isHeld && waiting === 0,
      changedMeanwhile: isSecond ? added + removed : 0,
      live: generations.find(({ state }) => state === 'live'),
    };
  });
  if (report.isFinished) await target.finish();
  return report;
}

/** Why a transfer into a store is refused that holds something, or undefined when it may begin or go on. */
export function checkTarget(
  target: string,
  source: string,
  found: { holdsCollection: boolean; record?: { source: string; isFinished: boolean }; wayOut: string },
): void {
  const { holdsCollection, record, wayOut } = found;
  if (record && !record.isFinished && record.source !== source)
    throw new UserError(
      'exists',
      `${target}: holds an unfinished migration from ${record.source}, and this one is from ${source}. Finish that one, or ${wayOut}`,
    );
  if (record?.isFinished ?? holdsCollection) {
    const whose = record ? `, that of ${record.source}: the migration from there is finished` : '';
    throw new UserError(
      'exists',
      `${target}: holds a collection already${whose}. To migrate into it, ${wayOut}`,
    );
  }
}
