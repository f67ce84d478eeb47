import { fileURLToPath } from 'node:url';

import { Command, InvalidArgumentError, Option } from 'commander';

import type { Keep } from '../../trainer/experiment/experiment.js';
import { integerFrom } from '../options.js';

interface Options {
  data: string[];
  pairs: string[];
  field?: string;
  eval: string[];
  split?: string;
  out: string;
  model?: string;
  seeds?: number[];
  only: string[];
  keep: Keep;
  threads?: number;
  json?: boolean;
}

export function experimentCommand(): Command {
  return new Command('experiment')
    .description(
      'Compare ways to train: every run of a file with every seed, in one table with paired bootstrap.',
    )
    .argument('<file>', 'what is compared, as experiments/demo.yaml')
    .requiredOption('--out <dir>', 'where results, table and report go')
    .option('--data <file...>', 'texts to train on, as finetune takes them', [])
    .option('--pairs <file...>', 'pairs to train on, for runs with "pairs: true"', [])
    .option('--field <name>', 'the column or field of --data that holds the text')
    .option(
      '--eval <spec...>',
      'judge by beir:DIR, sts:FILE or askubuntu:DIR; the first one orders the table',
      [],
    )
    .option('--split <name>', 'the split of beir: and askubuntu: (default: test)')
    .option('--model <dir|name>', "the encoder to start from (default: the file's, or default)")
    .addOption(new Option('--seeds <list>', "instead of the file's, as 1,2,3").argParser(seedList))
    .option('--only <name...>', 'these runs of the file', [])
    .addOption(
      new Option('--keep <which>', 'which model folders stay: a base encoder of 90 MB makes as many of 90 MB')
        .choices(['none', 'best', 'all'])
        .default('none'),
    )
    .addOption(
      new Option('--threads <n>', 'cores to compute with (default: all)').argParser(integerFrom(1, 1024)),
    )
    .option('--json', 'print one JSON object at the end')
    .addHelpText(
      'after',
      `
A file (YAML) has:
  about      what the experiment is to find out
  seeds      a list; every run is made with each
  runs       by name: preset, settings (as after --set, but for seed), data: false, pairs: true, adapt (with
             train: false, and no pairs, adapted only), and grid: settings with a list of values each, one run for every
             combination
  preset     of every run that names none
  settings   of every run, over its preset
  model      the encoder to start from
  reference  the run that the others are compared with, beside the base encoder
  select     last (default): the last weights are judged; best: those that the first --eval likes best

Each run is a process of its own. What is done is not done again: after Ctrl-C, kill -9 or a crash the same command
goes on, in the middle of a run too. A run that collapses is a result; the others go on.
DIR/table.md, table.json and report.html have the table; DIR/results/ each run's figures, query by query;
DIR/RUN-seedN.training/ its log and report.

Examples:
  sentence-jepa experiment experiments/demo.yaml --data examples/askubuntu-style/corpus.jsonl \\
    --eval beir:examples/askubuntu-style --out ./demo
  sentence-jepa experiment experiments/objectives.yaml --data titles.txt --eval beir:./dev sts:stsb-dev.csv \\
    --out ./objectives --seeds 1,2,3,4,5
  sentence-jepa experiment experiments/sketch-findings.yaml --only batch mu --data titles.txt --eval beir:./dev --out ./sketch`,
    )
    .action(run);
}

function seedList(text: string): number[] {
  const seeds = text.split(',').map(Number);
  if (!/^\d+(,\d+)*$/.test(text) || new Set(seeds).size < seeds.length)
    throw new InvalidArgumentError('Expected different whole numbers with commas between, as 1,2,3.');
  return seeds;
}

async function run(file: string, options: Options): Promise<void> {
  const { experiment } = await import('../../trainer/experiment/experiment.js');
  const interruption = new AbortController();
  const interrupt = (): void => {
    console.error('stopping behind this step, with a checkpoint (again to stop at once)');
    // Once only: the second Ctrl-C is the system's.
    interruption.abort();
  };
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  try {
    const { eval: evaluations, json, ...rest } = options;
    const { status, table, failed, markdown, files } = await experiment({
      ...rest,
      file,
      evaluations,
      command: [process.execPath, fileURLToPath(new URL('../main.js', import.meta.url))],
      signal: interruption.signal,
      onNote: (note) => console.error(note),
    });
    console.log(json ? JSON.stringify({ status, failed, ...table }) : markdown);
    console.error(`table: ${files.markdown}\nreport: ${files.html}`);
    if (status === 'interrupted') console.error('stopped; the same command goes on');
    if (failed > 0) console.error(`${failed} of the runs failed; the same command tries them again`);
    if (status === 'interrupted' || failed > 0) process.exitCode = 1;
  } finally {
    process.removeListener('SIGINT', interrupt);
    process.removeListener('SIGTERM', interrupt);
  }
}
