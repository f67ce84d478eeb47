import { spawnSync } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';

import { exists, writeFileAtomic } from '../base/files.js';
import { readLines } from '../base/lines.js';
import { projectRoot } from '../base/paths.js';

/**
 * Makes the encoder in models/default: a student of all-MiniLM-L6-v2, distilled by this program's own trainer.
 *
 *   npm run make-default -- DATA WORK
 *
 * DATA is a folder with askubuntu-duplicates and text (titles and paragraphs, a line each); nothing of
 * askubuntu-duplicates/dev is trained on, and it chooses nothing: it is measured before the first step and behind the
 * last. WORK is a folder for what is made on the way; a run that was cut off goes on from its last checkpoint.
 */

/** Paragraphs, with which share of them is taken: one in so many. The guides are most of the text, and the least like titles. */
const DOCUMENTS: [string, number][] = [
  ['text/gnome_user_docs.txt', 1],
  ['text/ubuntu_server_docs.txt', 1],
  ['text/ldp_howto_guides.txt', 3],
];
const TITLES = [
  'askubuntu-duplicates/train.titles.txt',
  'text/stackoverflow_titles.txt',
  'text/stackoverflow_sql_titles.txt',
  'text/tldr.txt',
];
/** Words of a sentence: what is shorter is a heading or a menu, what is longer a table or a listing. */
const SENTENCE = { shortest: 4, longest: 32 };

/** Layers 0 and 5 are nearest to the input and to the vectors. */
const STUDENT = 'layers=2,intermediate=1024,take=0+5,vocab=24000';
const STEPS = 7000;

const [data, work] = process.argv.slice(2).map((folder) => path.resolve(folder));
if (!work) {
  console.error('usage: npm run make-default -- DATA WORK');
  process.exit(2);
}
await mkdir(work, { recursive: true });

const sentences = path.join(work, 'sentences.txt');
if (!(await exists(sentences))) await writeFileAtomic(sentences, await sentencesOfDocuments());

const student = path.join(work, 'default');
if (!(await exists(student)))
  sentenceJepa('finetune', [
    ...['--objective', 'distill', '--teacher', 'all-MiniLM-L6-v2', '--student', STUDENT],
    ...['--data', ...TITLES.map((file) => path.join(data, file)), sentences],
    ...['--eval', `beir:${path.join(data, 'askubuntu-duplicates/dev')}`],
    `sts:${path.join(data, 'stsb/stsb-en-dev.csv')}`,
    ...['--max-steps', String(STEPS), '--set', `evaluateEvery=${STEPS}`, 'checkpointEvery=500'],
    ...['--out', student],
    ...((await exists(path.join(`${student}.training`, 'checkpoint.json'))) ? ['--resume'] : []),
  ]);

const made = path.join(projectRoot, 'models', 'default');
await rm(made, { recursive: true, force: true });
sentenceJepa('model', ['export', student, '--out', made, '--compact']);

async function sentencesOfDocuments(): Promise<string> {
  const segmenter = new Intl.Segmenter('en', { granularity: 'sentence' });
  const found = new Set<string>();
  for (const [file, every] of DOCUMENTS)
    for await (const { text, number } of readLines(path.join(data, file))) {
      if (number % every !== 0) continue;
      for (const { segment } of segmenter.segment(text)) {
        const words = segment.trim().split(/\s+/);
        if (words.length >= SENTENCE.shortest && words.length <= SENTENCE.longest) found.add(words.join(' '));
      }
    }
  return [...found].join('\n') + '\n';
}

/** Runs the command; what it prints is seen. */
function sentenceJepa(command: string, args: string[]): void {
  const main = path.join(projectRoot, 'dist/cli/main.js');
  const { status } = spawnSync(process.execPath, [main, command, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
