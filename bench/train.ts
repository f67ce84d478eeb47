import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { UserError } from '../base/errors.js';
import { projectRoot } from '../base/paths.js';
import { Random } from '../base/random.js';
import type { BertConfig } from '../encoder/bert.js';
import type { ModelFolder } from '../encoder/model-folder.js';
import { PRESETS } from '../trainer/presets.js';
import type { Recipe } from '../trainer/recipe.js';
import { makeView } from '../trainer/views/make-view.js';
import type { ViewOptions } from '../trainer/views/transformation.js';
import type { KernelTime } from './kernels.js';
import { weightsPerToken } from './peak.js';
import { BenchProcess } from './processes.js';
import { figure, markdownTable } from './report.js';
import { median } from './statistics.js';

/** What both trainers are told. */
export interface TrainSettings extends Recipe {
  /** Cores to compute with. */
  threads: number;
}

/** What a trainer did with the seconds that it was given: one step at least. */
export interface TrainAnswer {
  steps: number;
  /** Both views of each text. */
  sentences: number;
  /** Real ones, of both views: no padding. */
  tokens: number;
  /** Tokenizing included, as in a training run. */
  seconds: number;
  losses: number[];
  versions?: string;
}

/** The same, with what the time went to. */
export interface ProfileAnswer extends TrainAnswer {
  kernels: KernelTime[];
  /** The machine's, in GFLOP/s. */
  peak: number;
}

export interface TrainBenchOptions {
  model: ModelFolder;
  texts: readonly string[];
  batch: number;
  /** Of the matrix products: the peer's autocast, and ours. */
  precision: 'fp32' | 'bf16';
  /** Of each trainer, in each round. */
  seconds: number;
  rounds: number;
  /** A Python with sentence-transformers. */
  python?: string;
  /** Whether to time TensorFlow's kernels as well, in steps of their own. */
  profile?: boolean;
  say(line: string): void;
}

/** Where the time of our step goes. */
export interface StepProfile {
  millisecondsPerStep: number;
  /** Largest first; calls and milliseconds are those of a step. */
  kernels: KernelTime[];
  /** Of the dense layers, forward and back, in one step: 6 for each weight and row. */
  gigaflop: number;
  /** The machine's, in GFLOP/s. */
  peak: number;
}

export interface TrainBenchRow {
  trainer: string;
  /** Median of the rounds, as all that follow. */
  tokensPerSecond: number;
  /** Our tokens/s over its. */
  ratio: number;
  sentencesPerSecond: number;
  millisecondsPerStep: number;
  cpuMillisecondsPerStep?: number;
  memoryMiB?: number;
  tokensPerSecondOfRounds: number[];
  /** Of the first steps, on the same views: they start alike when they do the same work. */
  losses: number[];
  versions?: string;
}

export interface TrainBench {
  recipe: TrainSettings;
  /** Real ones of the first step, the same for all. */
  tokensOfFirstStep: number;
  rows: TrainBenchRow[];
  profile?: StepProfile;
}

interface Trainer {
  name: string;
  process: BenchProcess;
}

interface Measurement extends TrainAnswer {
  cpuSeconds?: number;
  memoryMiB?: number;
}

const OURS = 'sentence-jepa';
/** A title with room to spare. */
const MAX_TOKENS = 32;
const SHOWN_LOSSES = 3;

/**
 * Trains the same model on the same pairs of views by the same recipe, here and in the peer. The trainers take
 * turns, each on all cores while the others wait.
 *
 * @throws UserError `usage` for fewer texts than a batch; `unavailable` when a trainer doesn't start, with what
 *   it said; `backend` when the first step of one had other tokens
 */
export async function benchTrain(options: TrainBenchOptions): Promise<TrainBench> {
  const { model, texts, batch, precision, seconds, rounds, python, say } = options;
  if (texts.length < batch)
    throw new UserError(
      'usage',
      `--batch: expected at most as many as there are texts (${texts.length}), found ${batch}`,
    );
  const recipe = {
    ...PRESETS.vicreg,
    batch,
    precision,
    maxTokens: MAX_TOKENS,
    // Of the published sketch.
    expander: PRESETS['sketch-2022'].expander,
    // The peer's optimizer has one rate for all.
    expanderLearningRate: PRESETS.vicreg.learningRate,
    threads: availableParallelism(),
  };
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-train-'));
  const trainers: Trainer[] = [];
  try {
    const pairsFile = path.join(scratch, 'pairs.jsonl');
    const lines = pairsOfViews(texts, recipe).map((pair) => JSON.stringify(pair));
    await writeFile(pairsFile, lines.join('\n') + '\n');
    const start = (name: string, command: string, script: string): void => {
      const args = [script, path.resolve(model.dir), pairsFile, JSON.stringify(recipe)];
      trainers.push({ name, process: new BenchProcess(name, command, args) });
    };
    start(OURS, process.execPath, fileURLToPath(new URL('./train-worker.js', import.meta.url)));
    if (python) start('sentence-transformers', python, path.join(projectRoot, 'bench/peers/st_train.py'));

    // The first step allocates and compiles; it is not measured, but tells whether the work is the same.
    const first: TrainAnswer[] = [];
    for (const trainer of trainers) first.push(await measure(trainer, 0));
    expectSameTokens(trainers, first);

    const measured = trainers.map((): Measurement[] => []);
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1} of ${rounds}`);
      // Who comes first changes by the round.
      for (let i = 0; i < trainers.length; i++) {
        const t = (i + round) % trainers.length;
        measured[t].push(await measure(trainers[t], seconds));
      }
    }
    const rows = rowsOf(trainers, first, measured);
    const bench: TrainBench = { recipe, tokensOfFirstStep: first[0].tokens, rows };
    if (options.profile) {
      const answer = JSON.parse(await trainers[0].process.ask(`profile ${seconds}`)) as ProfileAnswer;
      bench.profile = profileOf(answer, model.config, recipe);
    }
    return bench;
  } finally {
    await Promise.all(trainers.map(({ process }) => process.stop()));
    await rm(scratch, { recursive: true, force: true });
  }
}

export function trainBenchTable({ recipe, rows, tokensOfFirstStep, profile }: TrainBench): string {
  const table = markdownTable(
    [
      ...['trainer', 'real tokens/s', 'ours / it', 'sentences/s', 'ms a step', 'CPU ms a step', 'memory MiB'],
      ...['first losses', 'tokens/s of the rounds'],
    ],
    rows.map((row) => [
      row.trainer,
      figure(row.tokensPerSecond),
      row.trainer === OURS ? '' : figure(row.ratio),
      figure(row.sentencesPerSecond),
      figure(row.millisecondsPerStep),
      figure(row.cpuMillisecondsPerStep ?? NaN),
      figure(Math.round(row.memoryMiB ?? NaN)),
      row.losses.map(figure).join(', '),
      row.tokensPerSecondOfRounds.map(figure).join(', '),
    ]),
  );
  const versions = rows.flatMap((row) => row.versions ?? []).map((text) => ` ${text}.`);
  return `${table}\n\nVICReg, expander ${recipe.expander.join('-')}, batch ${recipe.batch}, ${tokensOfFirstStep} real tokens in the first step, ${recipe.precision}, ${recipe.threads} threads.${versions.join('')}${profile ? `\n\n${profileTable(profile)}` : ''}`;
}

const SHOWN_KERNELS = 16;

function profileTable({ millisecondsPerStep, kernels, gigaflop, peak }: StepProfile): string {
  const share = (milliseconds: number): string =>
    `${((100 * milliseconds) / millisecondsPerStep).toFixed(1)} %`;
  const total = (of: 'calls' | 'milliseconds', some: readonly KernelTime[]): number =>
    some.reduce((sum, entry) => sum + entry[of], 0);
  const row = (name: string, calls: string, milliseconds: number): string[] => [
    name,
    calls,
    figure(milliseconds),
    share(milliseconds),
  ];
  const others = kernels.slice(SHOWN_KERNELS);
  const inKernels = total('milliseconds', kernels);
  const rate = gigaflop / (millisecondsPerStep / 1000);
  return (
    markdownTable(
      ['kernel', 'calls a step', 'ms a step', 'share'],
      [
        ...kernels
          .slice(0, SHOWN_KERNELS)
          .map(({ kernel, calls, milliseconds }) => row(kernel, figure(calls), milliseconds)),
        row('other kernels', figure(total('calls', others)), total('milliseconds', others)),
        row('JavaScript', '', millisecondsPerStep - inKernels),
      ],
    ) +
    `\n\n${figure(gigaflop)} GFLOP a step in dense layers: ${figure(rate)} GFLOP/s of ${figure(peak)} that one product of ` +
    `1024 x 1024 matrices reaches, ${((100 * rate) / peak).toFixed(0)} %.`
  );
}

function profileOf(
  { steps, sentences, tokens, seconds, kernels, peak }: ProfileAnswer,
  config: BertConfig,
  { expander }: TrainSettings,
): StepProfile {
  const head = expander.reduce(
    (sum, width, i) => sum + width * (i === 0 ? config.hiddenSize : expander[i - 1]),
    0,
  );
  return {
    millisecondsPerStep: (1000 * seconds) / steps,
    kernels: kernels.map(({ kernel, calls, milliseconds }) => ({
      kernel,
      calls: Math.round(calls / steps),
      milliseconds: milliseconds / steps,
    })),
    gigaflop: (6 * (tokens * weightsPerToken(config) + sentences * head)) / steps / 1e9,
    peak,
  };
}

/** The two views of each text that a recipe trains on. */
export function pairsOfViews(
  texts: readonly string[],
  { views, seed, ...options }: Pick<Recipe, 'views' | 'seed'> & ViewOptions,
): [string, string][] {
  const random = new Random(seed);
  const [first, second] = views.map((name) => makeView(name, options));
  return texts.map((text) => [
    first.apply({ first: text }, random).text,
    second.apply({ first: text }, random).text,
  ]);
}

async function measure({ process }: Trainer, seconds: number): Promise<Measurement> {
  const before = process.usage();
  const answer = JSON.parse(await process.ask(String(seconds))) as TrainAnswer;
  const after = process.usage();
  return {
    ...answer,
    cpuSeconds: before && after && after.cpuSeconds - before.cpuSeconds,
    memoryMiB: after?.memoryMiB,
  };
}

function expectSameTokens(trainers: readonly Trainer[], first: readonly TrainAnswer[]): void {
  first.forEach(({ tokens }, t) => {
    if (tokens !== first[0].tokens)
      throw new UserError(
        'backend',
        `${trainers[t].name}: expected ${first[0].tokens} tokens in the first step, as ours, found ${tokens}`,
      );
  });
}

function rowsOf(
  trainers: readonly Trainer[],
  first: readonly TrainAnswer[],
  measured: readonly Measurement[][],
): TrainBenchRow[] {
  const rates = measured.map((rounds) => rounds.map(({ tokens, seconds }) => tokens / seconds));
  return trainers.map(({ name }, t) => {
    const rounds = measured[t];
    const known = rounds.filter(({ cpuSeconds }) => cpuSeconds !== undefined);
    const losses = [first[t], ...rounds].flatMap(({ losses }) => losses);
    return {
      trainer: name,
      tokensPerSecond: median(rates[t]),
      ratio: median(rates[0]) / median(rates[t]),
      sentencesPerSecond: median(rounds.map(({ sentences, seconds }) => sentences / seconds)),
      millisecondsPerStep: median(rounds.map(({ seconds, steps }) => (seconds * 1000) / steps)),
      ...(known.length > 0 && {
        cpuMillisecondsPerStep: median(known.map(({ cpuSeconds, steps }) => (cpuSeconds! * 1000) / steps)),
        memoryMiB: median(known.map(({ memoryMiB }) => memoryMiB!)),
      }),
      tokensPerSecondOfRounds: rates[t],
      losses: losses.slice(0, SHOWN_LOSSES),
      versions: first[t].versions,
    };
  });
}
