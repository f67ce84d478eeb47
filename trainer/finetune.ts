import { mkdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import path from 'node:path';

import { parse } from 'yaml';

import { UserError } from '../base/errors.js';
import { exists, writeFileAtomic } from '../base/files.js';
import { version } from '../base/paths.js';
import { Random } from '../base/random.js';
import { fingerprintOf, weightsDigest } from '../encoder/fingerprint.js';
import {
  loadTokenizer,
  loadWeights,
  openModelFolder,
  writeModelFolder,
  type ModelFolder,
} from '../encoder/model-folder.js';
import type { Tensor } from '../encoder/safetensors.js';
import type { Evaluation } from '../evaluation/evaluation.js';
import { openEvaluation } from '../evaluation/open-evaluation.js';
import { Batches } from './batches.js';
import { stepsForTokens } from './budget.js';
import { Checkpoints } from './checkpoint.js';
import { readTrainingData, type Example } from './data.js';
import { differencesOf } from './differences.js';
import { feedOf, type Targets } from './feed.js';
import { LogFile, readRun } from './log-file.js';
import { modelCard, withoutFolders } from './model-card.js';
import { presetNamed } from './presets.js';
import { comparesTwo, type Recipe } from './recipe.js';
import { trainingReport } from './report.js';
import { beforeAndAfter } from './report/verdict.js';
import type { DataFile, EvaluationEntry, Run, RunStart, StepEntry } from './run-log.js';
import { withSettings } from './settings.js';
import {
  cutWeights,
  randomWeights,
  studentConfig,
  studentVocabulary,
  type StudentVocabulary,
} from './student.js';
import { parseStudentShape, type StudentShape } from './student-shape.js';
import { targetVectors } from './target-vectors.js';
import { Teacher } from './teacher.js';
import { TensorBoard } from './tensorboard.js';
import { loadTensorFlow } from './tensorflow/load.js';
import { measureSource } from './tensorflow/measure.js';
import { Ops } from './tensorflow/ops.js';
import { bf16Speedup } from './tensorflow/probe-precision.js';
import { openTrainable } from './tensorflow/trainable-bert.js';
import { train, type Outcome } from './train.js';
import { trainedEncoder } from './trained-encoder.js';
import { usesTitleOrBody } from './views/make-view.js';

/** Tells the random numbers of that choice from all others of a run. */
const SAMPLE = 7;
/** Texts on which an encoder is looked at before a student is cut out of it. */
const MEASURED_TEXTS = 1024;

export interface FinetuneOptions {
  /** Model folder of the encoder to start from, or to cut a student out of, and what to call it. */
  base: { dir: string; name: string };
  /** distill, and where vectors are kept: the model folder or name of the encoder whose they are; the base when left out. */
  teacher?: string;
  /** The shape of a new encoder that is made from the base, see parseStudentShape. */
  student?: string;
  /** The model folder to make; the run's own folder is beside it, see runFolderOf. */
  out: string;
  data: string[];
  pairs: string[];
  /** Which column or field of `data` is the text. */
  field?: string;
  preset: string;
  /** key=value each, over the preset. */
  settings: string[];
  /** beir:DIR, sts:FILE, askubuntu:DIR; the first one chooses the weights. */
  evaluations: string[];
  split?: string;
  resume: boolean;
  /** Export nothing unless the first evaluation rose beyond chance. */
  keepIfBetter?: boolean;
  /** Cores; all when left out. */
  threads?: number;
  signal?: AbortSignal;
  /** A sentence for the person who waits. */
  onNote(note: string): void;
  onStart?(start: RunStart): void;
  onStep?(entry: StepEntry): void;
  onEvaluation?(entry: EvaluationEntry): void;
  onEvaluationProgress?(spec: string, done: number, total: number): void;
  /** The teacher encodes the texts. */
  onTeacherProgress?(done: number, total: number): void;
}

export interface FinetuneResult {
  /** `no-better`: keepIfBetter exported nothing. */
  status: 'finished' | 'interrupted' | 'no-better';
  run: Run;
  /** The step whose weights were exported; the last one made, after an interruption. */
  step: number;
  /** Self-contained HTML. */
  report: string;
}

/** Where a run keeps its checkpoints, log, TensorBoard events and report. */
export function runFolderOf(out: string): string {
  return `${path.resolve(out)}.training`;
}

/**
 * Trains an encoder and writes its model folder. It appears in one rename when the run is done; until then, and
 * after an interruption or kill -9, everything needed to go on is in the run's folder.
 *
 * @throws UserError for data, settings or a model that can't be used; `exists` when `out` or an unfinished run
 *   is there; `unavailable` without TensorFlow or with a full disk; `backend` for a collapse
 */
export async function finetune(options: FinetuneOptions): Promise<FinetuneResult> {
  const { out } = options;
  if (await exists(out))
    throw new UserError('exists', `${out}: already there; name another folder with --out or remove it first`);
  const plan = await planOf(options);
  try {
    return await carryOut(plan, options);
  } finally {
    await plan.teacher?.close();
  }
}

/** All that is known of a run before TensorFlow is loaded. */
interface Plan {
  recipe: Recipe;
  steps: number;
  threads: number;
  base: ModelFolder;
  baseWeights: ReadonlyMap<string, Tensor>;
  fingerprint: string;
  /** What will be exported, but for its weights. */
  trained: ModelFolder;
  student?: { shape: StudentShape; vocabulary: StudentVocabulary };
  teacher?: Teacher;
  files: DataFile[];
  examples: Example[];
  batches: Batches;
  evaluations: Evaluation[];
}

/** Reads everything that can be wrong. @throws UserError as finetune */
async function planOf(options: FinetuneOptions): Promise<Plan> {
  const { onNote } = options;
  const recipe = withSettings(presetNamed(options.preset), options.settings);
  checkObjective(recipe, options);
  for (const [name, wanted] of [
    ['--keep-if-better', options.keepIfBetter],
    ['--set patience', recipe.patience > 0],
  ] as const)
    if (wanted && options.evaluations.length === 0)
      throw new UserError('usage', `${name}: expected --eval to measure by, found none`);
  const base = await openModelFolder(options.base.dir, options.base.name);
  base.notes.forEach(onNote);
  const baseWeights = await loadWeights(base);
  const sides = recipe.views.some(usesTitleOrBody);
  const { examples, files, notes } = await readTrainingData({ ...options, sides });
  notes.forEach(onNote);
  if (examples.length < recipe.batch)
    throw new UserError(
      'invalid',
      `expected at least ${recipe.batch} texts or pairs for a batch of ${recipe.batch}, found ${examples.length}; a smaller --batch is possible`,
    );
  const evaluations = [];
  for (const spec of options.evaluations) {
    const evaluation = await openEvaluation(spec, { split: options.split });
    evaluation.notes.forEach(onNote);
    evaluations.push(evaluation);
  }

  const pooling = recipe.pooling === 'model' ? base.pooling : recipe.pooling;
  const trained: ModelFolder = { ...base, pooling };
  let student: Plan['student'];
  if (options.student !== undefined) {
    const shape = parseStudentShape(options.student, base.config);
    const vocabulary = studentVocabulary(
      base,
      shape,
      examples.map(({ first }) => first),
    );
    student = { shape, vocabulary };
    trained.config = studentConfig(base.config, shape, vocabulary.pieces.length);
    trained.tokenizer = vocabulary.tokenizer;
  }
  const batches = new Batches(examples, recipe);
  const threads = options.threads ?? availableParallelism();
  const { config, tokenizer: tokenizerFiles } = trained;
  const tokenizer = loadTokenizer(trained, Math.min(recipe.maxTokens, config.maxPositions));
  // Tokens are counted; what is to be learned of them is not asked for.
  const noTargets = (): Promise<Float32Array> => Promise.resolve(new Float32Array());
  const feed = feedOf(batches, { tokenizer, files: tokenizerFiles }, recipe, noTargets);
  const stepsByTokens = await stepsForTokens(feed, recipe.tokens);
  const learns = recipe.objective === 'distill' || recipe.keepWeight > 0;
  const teacher = options.teacher ?? (learns ? options.base.dir : undefined);
  return {
    ...{ recipe, threads, base, baseWeights, trained, student, files, examples, batches, evaluations },
    steps: stepsByTokens || recipe.maxSteps || recipe.epochs * batches.stepsPerEpoch,
    fingerprint: fingerprintOf(base, weightsDigest(base.config, baseWeights), 'fp32'),
    teacher: teacher === undefined ? undefined : await Teacher.open(teacher, { threads }),
  };
}

async function carryOut(plan: Plan, options: FinetuneOptions): Promise<FinetuneResult> {
  const { recipe, steps, threads, base, fingerprint, trained, student, teacher, files, batches } = plan;
  const { out, onNote } = options;
  const { config, pooling } = trained;
  const folder = runFolderOf(out);
  const at = (name: string): string => path.join(folder, name);
  const digests = files.map(({ kind, count, sha256 }) => ({ kind, count, sha256 }));
  const identity = {
    ...{ recipe, steps, data: digests, base: fingerprint, evaluations: options.evaluations },
    ...(teacher && { teacher: teacher.fingerprint }),
    ...(student && { student: student.shape }),
  };
  const checkpoints = new Checkpoints(folder, identity);
  const from = await startingPoint(checkpoints, options);

  const tf = await loadTensorFlow({ threads });
  const ops = new Ops(tf);
  if (recipe.precision === 'bf16') {
    const speedup = bf16Speedup(tf);
    if (speedup < 1)
      onNote(
        `bf16 is slow on this processor: a product takes ${(1 / speedup).toFixed(1)} times as long as in fp32`,
      );
  }
  let targets: Targets | undefined;
  if (teacher) {
    const { signal, onTeacherProgress: onProgress } = options;
    const texts = textsToLearn(plan);
    targets = await targetVectors(ops, teacher, texts, config.hiddenSize, recipe, { signal, onProgress });
  }
  const tokenizer = loadTokenizer(trained, Math.min(recipe.maxTokens, config.maxPositions));
  const feed = feedOf(batches, { tokenizer, files: trained.tokenizer }, recipe, targets);
  const weights = firstWeights(ops, plan);
  const model = await openTrainable({ config, weights, pooling, recipe, threads });
  if (from) model.restore(from.state);
  const start: RunStart = {
    type: 'start',
    time: new Date().toISOString(),
    version,
    preset: options.preset,
    recipe,
    steps,
    data: files,
    base: { name: base.name, fingerprint, dimensions: config.hiddenSize, layers: config.layers },
    ...(teacher && { teacher: { name: teacher.name, fingerprint: teacher.fingerprint } }),
    ...(student && { student: student.shape }),
    environment: {
      node: process.versions.node,
      tensorflow: tf.backend().binding.TF_Version,
      processor: cpus()[0]?.model ?? 'unknown',
      threads,
    },
  };
  if (!from) await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const log = await LogFile.open(at('log.jsonl'), { keepThrough: from?.checkpoint.step });
  const board = new TensorBoard(tf, at('tensorboard'), recipe);
  let outcome: Outcome;
  try {
    if (!from) await log.write(start);
    options.onStart?.(start);
    outcome = await train({
      model,
      feed,
      recipe,
      steps,
      dimensions: config.hiddenSize,
      evaluations: plan.evaluations,
      encoder: trainedEncoder(model, loadTokenizer(trained), {
        name: base.name,
        dimensions: config.hiddenSize,
        normalize: base.normalize,
      }),
      checkpoints,
      from: from?.checkpoint,
      signal: options.signal,
      onEvaluationProgress: options.onEvaluationProgress,
      async onStep(entry) {
        await log.write(entry);
        board.write(entry);
        options.onStep?.(entry);
      },
      async onEvaluation(entry) {
        await log.write(entry);
        board.write(entry);
        options.onEvaluation?.(entry);
      },
    });
    const { status, best, step, seconds, cpuSeconds } = outcome;
    if (status !== 'interrupted') {
      const bestStep = best?.step ?? step;
      const { evaluations } = await readRun(at('log.jsonl'));
      await log.write({
        type: 'end',
        time: new Date().toISOString(),
        reason: status,
        ...{ step, bestStep, seconds, cpuSeconds },
        // In kilobytes (getrusage).
        peakMemory: process.resourceUsage().maxRSS * 1024,
        ...(evaluations.length > 0 && { differences: differencesOf(evaluations, bestStep) }),
      });
    }
  } finally {
    await log.close();
    board.flush();
  }

  const run = await readRun(at('log.jsonl'));
  await writeFileAtomic(at('report.html'), trainingReport(run));
  const { best, step, status } = outcome;
  if (status === 'interrupted') return { status, run, step, report: at('report.html') };
  if (status === 'collapsed')
    throw new UserError('backend', `${outcome.explanation}. What happened is in ${at('report.html')}`);
  if (options.keepIfBetter && !isBetter(run)) {
    model.dispose();
    await checkpoints.remove();
    return { status: 'no-better', run, step: best?.step ?? step, report: at('report.html') };
  }

  await writeModelFolder(out, {
    ...trained,
    weights: best ? await checkpoints.loadBest(best) : await model.weights(),
    card: modelCard({
      name: path.basename(path.resolve(out)),
      run,
      base: base.name,
      license: await licenseOf(base),
      dimensions: config.hiddenSize,
      maxTokens: base.maxTokens,
      pooling,
    }),
    provenance: provenanceOf(run),
  });
  model.dispose();
  await checkpoints.remove();
  return { status, run, step: best?.step ?? step, report: at('report.html') };
}

/** @throws UserError `usage` when objective, heads, teacher and data do not go together */
function checkObjective(recipe: Recipe, { teacher, pairs }: FinetuneOptions): void {
  const { objective, views } = recipe;
  const compares = comparesTwo(objective);
  const expect = (holds: boolean, message: string): void => {
    if (!holds) throw new UserError('usage', message);
  };
  if (objective === 'distill')
    expect(
      teacher !== undefined || knowsMore(recipe),
      'expected --teacher DIR|NAME for --objective distill, found none; the encoder can be its own with --set context=WORDS or neighbours=N',
    );
  else
    expect(
      teacher === undefined || recipe.keepWeight > 0,
      `expected --objective distill or --set keepWeight=... with --teacher, found ${objective}; leave one of the two out`,
    );
  if (compares) expect(views.length <= 2, `--set views: expected one view, or two, found ${views.length}`);
  expect(
    pairs.length === 0 || (compares && objective !== 'simcse'),
    objective === 'simcse'
      ? 'expected texts by --data for --objective simcse, found --pairs; --objective infonce is the same loss on pairs'
      : `expected texts by --data for --objective ${objective}, found --pairs; put both texts of a pair into a file of texts`,
  );
  expect(
    objective !== 'simcse' || recipe.dropout !== 0 || views.some((view) => view !== 'same'),
    '--set dropout: expected a number above 0 for simcse, whose views differ by nothing else, found 0',
  );
  for (const weight of [
    'mlmWeight',
    'rtdWeight',
    'reconstructionWeight',
    'editWeight',
    'keepWeight',
  ] as const)
    expect(
      compares || recipe[weight] === 0,
      `--set ${weight}: expected an objective that compares two views beside it, found ${objective}`,
    );
  expect(
    objective === 'vicreg' || recipe.predictorWidth === 0,
    `--set predictorWidth: expected --objective vicreg with a predictor, found ${objective}`,
  );
}

/** Whether the vectors to be learned are not those that the teacher gives the texts alone. */
function knowsMore({ context, neighbours }: Recipe): boolean {
  return context !== '' || neighbours > 0;
}

/** The texts whose vectors a run's steps need; with context, all there are, since it is what they have in common. */
function textsToLearn({ recipe, batches, steps, examples }: Plan): Set<string> {
  if (knowsMore(recipe)) return new Set(examples.flatMap(({ first, second }) => [first, second]));
  const texts = new Set<string>();
  for (let step = 1; step <= steps; step++)
    for (const text of batches.originalsAt(step).flat()) texts.add(text);
  return texts;
}

/** The weights that training begins with: the base encoder's, or a student's. */
function firstWeights(
  ops: Ops,
  { recipe, base, baseWeights, trained: { config }, student, examples }: Plan,
): ReadonlyMap<string, Tensor> {
  if (!student) return baseWeights;
  const { shape, vocabulary } = student;
  const { seed, maxTokens } = recipe;
  if (shape.init === 'random') return randomWeights(config, seed);
  const sample = new Random(seed, SAMPLE)
    .shuffle(examples.map(({ first }) => first))
    .slice(0, MEASURED_TEXTS);
  const tokenizer = loadTokenizer(base, Math.min(maxTokens, base.config.maxPositions));
  const sequences = sample.map((text) => tokenizer.encode(text));
  const measured = measureSource(ops, base.config, baseWeights, sequences);
  return cutWeights({ config: base.config, weights: baseWeights }, config, shape, vocabulary, measured);
}

/** What an earlier process left; nothing for a new run. */
async function startingPoint(
  checkpoints: Checkpoints,
  { out, resume }: FinetuneOptions,
): Promise<Awaited<ReturnType<Checkpoints['load']>> | undefined> {
  if (resume) return checkpoints.load();
  if (await checkpoints.exists())
    throw new UserError(
      'exists',
      `${runFolderOf(out)}: an unfinished run is there; go on with it by --resume, or remove it to start anew`,
    );
  return undefined;
}

/** Whether the deciding metric of the first evaluation rose beyond chance. */
function isBetter({ end }: Run): boolean {
  const [first] = end?.differences ?? [];
  return first !== undefined && first.low > 0;
}

/** sentence-jepa.json: enough to make it again. */
function provenanceOf(made: Run): Record<string, unknown> {
  const run = withoutFolders(made);
  const { version, time, preset, recipe, steps, data, base, teacher, student, environment } = run.start;
  const bestStep = run.end?.bestStep;
  return {
    format: 1,
    ...{ version, time, preset, recipe, steps, bestStep, data, base, teacher, student, environment },
    ...beforeAndAfter(run),
  };
}

/** The licence that the base encoder's card states. */
async function licenseOf({ dir }: ModelFolder): Promise<string | undefined> {
  const card = await readFile(path.join(dir, 'README.md'), 'utf8').catch(() => '');
  const front = /^---\r?\n(.*?)\r?\n---/s.exec(card)?.[1];
  if (front === undefined) return undefined;
  try {
    const { license } = (parse(front) ?? {}) as { license?: unknown };
    return typeof license === 'string' ? license : undefined;
  } catch {
    return undefined; // A card is prose: one that can't be read is no reason to fail.
  }
}
