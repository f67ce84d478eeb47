#!/usr/bin/env node
import { Command } from 'commander';

import { integerFrom } from '../../cli/options.js';
import { torture } from './rounds.js';

const program = new Command('torture')
  .description(
    'Kill a server while it is written to, damage its files, and compare what it answers with what its clients know.',
  )
  .option('--rounds <n>', 'how often it is killed', integerFrom(1, 1e6), 100)
  .option('--seed <n>', 'of what is written, and of what is damaged', integerFrom(0, 2 ** 32 - 1), 1)
  .option('--damage-every <n>', 'damage files in every n-th round; 0 for never', integerFrom(0, 1e6), 2)
  .addHelpText(
    'after',
    `
A line for each round, then a summary. Ends with 1 when an acknowledged write is lost, a document is there that nobody
sent or that was deleted, a document is not found, or a damaged collection gives a wrong answer instead of a refusal.
When writes are cut off differs from run to run, whatever the seed.

Examples:
  npm run torture
  npm run torture -- --rounds 10 --seed 7 --damage-every 1`,
  );
program.parse();
const { rounds, seed, damageEvery } = program.opts<{ rounds: number; seed: number; damageEvery: number }>();

const began = performance.now();
const result = await torture({ rounds, seed, damageEvery, say: (line) => console.log(line) });
const { acknowledged, refused, survived, violations } = result;
for (const violation of violations) console.error(violation);
console.log(
  `${rounds} rounds in ${Math.round((performance.now() - began) / 1000)} s: ${acknowledged} writes acknowledged, ` +
    `${refused + survived} times damaged (${refused} refused, ${survived} served rightly or rebuilt), ${violations.length} violations`,
);
process.exitCode = violations.length > 0 ? 1 : 0;
