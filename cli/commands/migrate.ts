import path from 'node:path';

import { Command } from 'commander';

import { UserError } from '../../base/errors.js';
import { storeName } from '../../server/postgres/store-name.js';
import { withFolderSource, withFolderTarget } from '../../server/search/folder-transfer.js';
import type { TransferSource, TransferTarget } from '../../server/transfer/stores.js';
import { transfer, type TransferReport } from '../../server/transfer/transfer.js';
import { progressBars } from '../progress.js';

interface Options {
  from: string;
  to: string;
  json?: boolean;
}

export function migrateCommand(): Command {
  return new Command('migrate')
    .description('Copy a collection from a data folder to PostgreSQL, or back, and compare both.')
    .requiredOption('--from <dir|url>', 'a data folder, or postgres://user:password@host/database')
    .requiredOption('--to <dir|url>', 'the same, without a collection; a folder is made when it is not there')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Documents, the vectors of each model (copied, not computed again), feedback and jobs that have ended go along, keys and
all. At the end both sides are read whole and compared. Ends with 1 unless they are equal and no server has --from open.

While a server has it open, it is copied as it is at one moment, and then what was written until then. Stop the server
and run the same command again: it copies what is lacking, which takes a moment, and finishes. Cut off anywhere, the same
command goes on. No server opens --to before it is finished. --from stays as it is.

PGPASSWORD keeps a password out of the command line.

Examples:
  sentence-jepa migrate --from ./data --to postgres://user@db/questions
  sentence-jepa migrate --from postgres://user@db/questions --to ./data`,
    )
    .action(migrate);
}

async function migrate({ from, to, json }: Options): Promise<void> {
  if (nameOf(from, '--from') === nameOf(to, '--to'))
    throw new UserError(
      'usage',
      `--from and --to: expected two collections, came ${nameOf(to, '--to')} twice`,
    );
  const bars = progressBars('rows');
  const report = await withSource(from, (source) =>
    withTarget(to, source.name, (target) => transfer(source, target, { onProgress: bars.update })),
  ).finally(bars.stop);
  if (json) console.log(JSON.stringify({ from: nameOf(from), to: nameOf(to), ...report }));
  else for (const line of linesOf(report, to)) console.log(line);
  refuseUnfinished(report, from, to);
}

/** @throws UserError unless it is finished */
function refuseUnfinished({ isEqual, isFinished, waiting }: TransferReport, from: string, to: string): void {
  if (!isEqual)
    throw new UserError(
      'corrupt',
      `${nameOf(to)}: expected what ${nameOf(from)} holds, found something else: one of them was changed by something else meanwhile, or was replaced between two runs. Begin again with an empty target`,
    );
  if (waiting > 0)
    throw new UserError(
      'unavailable',
      `${nameOf(from)}: ${waiting} documents wait there to be embedded (GET /ingests). Let a worker embed them, or delete those that were given up, and run this again without one`,
    );
  if (!isFinished)
    throw new UserError(
      'unavailable',
      `${nameOf(from)} is copied as it was a moment ago, but a server has it open and may write. Stop that one and run this again: it copies what is lacking, and finishes`,
    );
}

function linesOf(report: TransferReport, to: string): string[] {
  const { source, target, changedMeanwhile, live, jobsLeft, isFinished } = report;
  const targets = new Map(target.map((part) => [part.part, part]));
  const lines = source.map(({ part, count, sha256 }) => {
    const other = targets.get(part);
    return other?.count === count && other.sha256 === sha256
      ? `${part}: ${count} in both, SHA-256 ${sha256}`
      : `${part}: DIFFERENT: ${count}, SHA-256 ${sha256}; there ${other ? `${other.count}, ${other.sha256}` : 'none'}`;
  });
  if (changedMeanwhile > 0)
    lines.push(`${changedMeanwhile} documents came or went while it was copied, and were copied as well`);
  if (jobsLeft > 0) lines.push(`${jobsLeft} jobs have not ended, and were left out`);
  if (isFinished) lines.push(...next(live, to));
  return lines;
}

/** What to do with it. */
function next(live: TransferReport['live'], to: string): string[] {
  const serve = isUrl(to) ? `serve --store ${nameOf(to)}` : `serve --data-dir ${to}`;
  if (!live) return [`finished: ${serve}`];
  const { model, source, job, fingerprint } = live;
  const which =
    job === null
      ? `${serve} --model ${source ?? model}`
      : `${serve}, with the model of job ${job}, which is no part of the collection, in DATA_DIR/models/${model} or in a --model-store`;
  return [
    `finished: ${which}`,
    `the vectors are of fingerprint ${fingerprint.slice(0, 12)}; a model or a --precision that makes others is refused at start`,
  ];
}

async function withSource<T>(from: string, use: (source: TransferSource) => Promise<T>): Promise<T> {
  return isUrl(from) ? (await postgres()).withPostgresSource(from, use) : withFolderSource(from, use);
}

async function withTarget<T>(
  to: string,
  source: string,
  use: (target: TransferTarget) => Promise<T>,
): Promise<T> {
  return isUrl(to)
    ? (await postgres()).withPostgresTarget(to, source, use)
    : withFolderTarget(to, source, use);
}

const postgres = () => import('../../server/postgres/transfer.js');

function isUrl(place: string): boolean {
  return /^\w+:\/\//.test(place);
}

/** @throws UserError `usage` for a URL that is no store's */
function nameOf(place: string, option?: string): string {
  return isUrl(place) ? storeName(place, option) : path.resolve(place);
}
