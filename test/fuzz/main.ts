#!/usr/bin/env node
import { Command } from 'commander';

import { integerFrom } from '../../cli/options.js';
import { fuzz } from './fuzz.js';

const program = new Command('fuzz')
  .description('Send mutated requests to every route of openapi.yaml, and check every answer against it.')
  .option('--requests <n>', 'how many', integerFrom(10, 1e9), 50_000)
  .option('--seed <n>', 'of the mutations', integerFrom(0, 2 ** 32 - 1), 1)
  .option('--store <url>', 'keep the collection in this PostgreSQL database, which is emptied')
  .addHelpText(
    'after',
    `
Ends with 1 for a 5xx other than 503 and 507, an answer that openapi.yaml does not describe, a request that is neither
answered nor closed within 30 s, and for memory or handles that grow.

Examples:
  npm run fuzz
  npm run fuzz -- --requests 2000 --seed 7
  npm run fuzz -- --store postgres://postgres@127.0.0.1/fuzz`,
  );
program.parse();
const options = program.opts<{ requests: number; seed: number; store?: string }>();

const began = performance.now();
const { statuses, violations, usages, rssBytesPerThousand } = await fuzz({
  ...options,
  say: (line) => console.log(line),
});
for (const violation of violations.slice(0, 100)) console.error(violation);
const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
const [warm, last] = [usages[0], usages[usages.length - 1]];
console.log(
  [
    `${options.requests} requests in ${Math.round((performance.now() - began) / 1000)} s: ${violations.length} violations`,
    `statuses ${Object.entries(statuses)
      .map(([status, n]) => `${status === '0' ? 'closed' : status} ${n}`)
      .join(', ')}`,
    `resident ${mib(warm.rss)} MiB after warming up, ${mib(last.rss)} at the end, slope ${mib(rssBytesPerThousand)} MiB per 1000 requests`,
    `heap and buffers ${mib(warm.heapUsed + warm.external)} -> ${mib(last.heapUsed + last.external)} MiB, handles ${warm.handles} -> ${last.handles}`,
  ].join('\n'),
);
process.exitCode = violations.length > 0 ? 1 : 0;
