/**
 * Stands in for `sentence-jepa finetune`: the same options, folders and ways to end, but what it makes is a file that
 * says which fake encoder to open. `--set behave=...` says what happens to it: `held` stops in the middle until the
 * file of `--set until=...` is there, or for ever without one, so that a test has all the time it needs.
 */
import { appendFileSync, cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const STEPS = 20;
const HELD_AT = 10;

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    data: { type: 'string' },
    pairs: { type: 'string' },
    out: { type: 'string' },
    model: { type: 'string' },
    threads: { type: 'string' },
    eval: { type: 'string' },
    preset: { type: 'string' },
    set: { type: 'string', multiple: true },
    resume: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  allowPositionals: true,
});
const out = values.out!;
const settings = new Map(
  process.argv.filter((arg) => arg.includes('=')).map((arg) => arg.split('=') as [string, string]),
);
const behave = settings.get('behave') ?? 'better';
const training = `${out}.training`;
const log = path.join(training, 'log.jsonl');
const tell = (entry: object): void => appendFileSync(log, JSON.stringify(entry) + '\n');

let stopped = process.connected === false;
process.once('disconnect', () => (stopped = true));

const checkpoint = path.join(training, 'checkpoint.json');
if (Boolean(values.resume) !== existsSync(checkpoint)) throw new Error(`--resume: ${values.resume}`);
mkdirSync(training, { recursive: true });
if (!values.resume) {
  rmSync(log, { force: true });
  tell({ type: 'start', steps: STEPS });
}
// For tests to look at; the job's own goes when it has ended.
cpSync(path.dirname(values.data!), path.join(training, 'seen'), { recursive: true });
writeFileSync(path.join(training, 'arguments.json'), JSON.stringify(values));

for (let step = 1; step <= STEPS; step++) {
  tell({
    type: 'step',
    step,
    loss: 1 / step,
    terms: { a: 1 / step },
    std: 1,
    effectiveRank: 10,
    seconds: 0.01,
  });
  if (behave === 'collapse' && step === 5) {
    console.error('error: the embeddings collapse: their spread fell to 0.01 at step 5');
    process.exit(1);
  }
  if (behave === 'hog') Buffer.alloc(64 * 2 ** 20, 1).fill(step);
  await sleep(behave === 'slow' || behave === 'hog' ? 100 : 1);
  const until = settings.get('until');
  while (behave === 'held' && step === HELD_AT && !stopped && !(until && existsSync(until))) await sleep(10);
  writeFileSync(checkpoint, '{}');
  if (stopped) {
    console.log('{"status":"interrupted"}');
    process.exit(1);
  }
}
mkdirSync(`${out}.part`, { recursive: true });
writeFileSync(path.join(`${out}.part`, 'model.json'), JSON.stringify({ behave, out: path.basename(out) }));
renameSync(`${out}.part`, out);
process.exit(0);
