import { createInterface } from 'node:readline';

import { readLines } from '../base/lines.js';
import { Random } from '../base/random.js';
import { loadWeights, openModelFolder } from '../encoder/model-folder.js';
import { loadTokenizer } from '../encoder/tokenizer.js';
import { pack } from '../trainer/packing.js';
import { loadTensorFlow } from '../trainer/tensorflow/load.js';
import { openTrainable } from '../trainer/tensorflow/trainable-bert.js';
import type { PackedBatch } from '../trainer/types.js';
import { peakOfTensorFlow, timeKernels } from './kernels.js';
import type { ProfileAnswer, TrainAnswer, TrainSettings } from './train.js';

/**
 * This program's training step, in a process of its own as the trainer always is.
 * usage: train-worker.js MODEL_FOLDER PAIRS.jsonl SETTINGS; lines and answers as in peers/st_train.py,
 * and "profile SECONDS" for the times of the kernels
 */
const [dir, pairsFile, settingsJson] = process.argv.slice(2);
const recipe = JSON.parse(settingsJson) as TrainSettings;

const folder = await openModelFolder(dir);
const tokenizer = loadTokenizer(folder, recipe.maxTokens);
const pairs: [string, string][] = [];
for await (const { text } of readLines(pairsFile)) pairs.push(JSON.parse(text) as [string, string]);
const trainable = await openTrainable({
  config: folder.config,
  weights: await loadWeights(folder),
  pooling: folder.pooling,
  recipe,
  threads: recipe.threads,
});

let step = 0;
async function trainFor(limit: number): Promise<TrainAnswer> {
  const begin = performance.now();
  const seconds = (): number => (performance.now() - begin) / 1000;
  const answer: TrainAnswer = { steps: 0, sentences: 0, tokens: 0, seconds: 0, losses: [] };
  do {
    const rows = Array.from(
      { length: recipe.batch },
      (_, i) => pairs[(step * recipe.batch + i) % pairs.length],
    );
    const view = (side: 0 | 1): PackedBatch => pack(rows.map((pair) => tokenizer.encode(pair[side])));
    const batch = { views: [view(0), view(1)], seed: new Random(recipe.seed, step).uint32() };
    const { loss, tokens } = await trainable.step(batch, { learningRate: recipe.learningRate });
    step++;
    answer.steps++;
    answer.sentences += 2 * recipe.batch;
    answer.tokens += tokens;
    answer.losses.push(loss);
  } while (seconds() < limit);
  return { ...answer, seconds: seconds() };
}

async function profile(limit: number): Promise<ProfileAnswer> {
  const tf = await loadTensorFlow();
  let answer!: TrainAnswer;
  const kernels = await timeKernels(tf.backend(), async () => {
    answer = await trainFor(limit);
  });
  return { ...answer, kernels, peak: await peakOfTensorFlow(tf) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const [, limit] = /^profile (.+)$/.exec(line) ?? [];
  console.log(JSON.stringify(limit ? await profile(Number(limit)) : await trainFor(Number(line))));
}
