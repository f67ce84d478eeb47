import { spawnSync, type StdioOptions } from 'node:child_process';
import { mkdir, readFile, rm } from 'node:fs/promises';
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
const DEV = path.join(data, 'askubuntu-duplicates/dev');
const STS = path.join(data, 'stsb/stsb-en-dev.csv');

const sentences = path.join(work, 'sentences.txt');
if (!(await exists(sentences))) await writeFileAtomic(sentences, await sentencesOfDocuments());

const student = path.join(work, 'default');
if (!(await exists(student)))
  sentenceJepa('finetune', [
    ...['--objective', 'distill', '--teacher', 'all-MiniLM-L6-v2', '--student', STUDENT],
    ...['--data', ...TITLES.map((file) => path.join(data, file)), sentences],
    ...['--eval', `beir:${DEV}`, `sts:${STS}`],
    // What the repository's was made in.
    ...[
      '--precision',
      'fp32',
      '--max-steps',
      String(STEPS),
      '--set',
      `evaluateEvery=${STEPS}`,
      'checkpointEvery=500',
    ],
    ...['--out', student],
    ...((await exists(path.join(`${student}.training`, 'checkpoint.json'))) ? ['--resume'] : []),
  ]);

const made = path.join(projectRoot, 'models', 'default');
await rm(made, { recursive: true, force: true });
sentenceJepa('model', ['export', student, '--out', made, '--compact']);
// The rounding to 8 bits is part of what is served, so it is part of what is measured.
const measured = sentenceJepa(
  'evaluate',
  ['--model', made, '--beir', DEV, '--sts', STS, '--json'],
  ['inherit', 'pipe', 'inherit'],
);
const card = path.join(made, 'README.md');
await writeFileAtomic(card, (await readFile(card, 'utf8')) + cardEnd(JSON.parse(measured) as Measured));

/** What the trainer can't know: the figures after rounding, and whose text it was. */
function cardEnd({ evaluations }: Measured): string {
  const figures = evaluations.flatMap(({ metrics }) =>
    Object.entries(metrics).map(([name, value]) => `| ${name} | ${(100 * value).toFixed(2)} |`),
  );
  return `
## As it is stored

Matrices in 8 bits, with a scale for each row; \`npm run make-default -- DATA WORK\` in sentence-jepa's repository makes it.
What it scores so (Ask Ubuntu duplicates dev, STS benchmark dev), in percent:

| | |
| --- | --- |
${figures.join('\n')}

## Licences

The weights are Apache-2.0, as those of their teacher, [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2).
The text that they were trained on is not in them: titles of Ask Ubuntu (Rodrigues et al. 2017, CC BY-SA 3.0) and Stack Overflow
(CC BY-SA), tldr pages (CC BY 4.0), GNOME's user documentation (CC BY 3.0), Ubuntu Server's documentation and the guides of the Linux
Documentation Project (each under its own licence). No duplicate links were used, and no text of the dev sets above.
`;
}

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

/** What `evaluate --json` prints, as far as it is used. */
interface Measured {
  evaluations: { metrics: Record<string, number> }[];
}

/** Runs the command, and ends with it when it fails. @returns what it printed, when stdout is a pipe */
function sentenceJepa(command: string, args: string[], stdio: StdioOptions = 'inherit'): string {
  const main = path.join(projectRoot, 'dist/cli/main.js');
  const { status, stdout } = spawnSync(process.execPath, [main, command, ...args], {
    stdio,
    encoding: 'utf8',
  });
  if (status !== 0) process.exit(status ?? 1);
  return stdout;
}
