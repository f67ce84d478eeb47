import { readFile, rm } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import path from 'node:path';

import { load } from 'js-yaml';

import { UserError } from '../base/errors.js';
import { exists, writeFileAtomic } from '../base/files.js';
import { cacheFolder, version } from '../base/paths.js';
import { Random } from '../base/random.js';
import { runFolderOf } from '../base/run-folder.js';
import { emptyRun, lockRun } from '../base/run-lock.js';
import { fingerprintOf, weightsDigest } from '../encoder/fingerprint.js';
import {
  dimensionsOf,
  loadWeights,
  type ModelContent,
  type ModelFolder,
  openModelFolder,
  type Origin,
  writeModelFolder,
} from '../encoder/model-folder.js';
import { loadTokenizer } from '../encoder/tokenizer.js';
import type { Tensor } from '../encoder/safetensors.js';
import type { Evaluation } from '../evaluation/evaluation.js';
import { openEvaluation } from '../evaluation/open-evaluation.js';
import { adapt, type Adapted, type AdaptOptions } from './adapt.js';
import { adaptationText, checkAdaptation, parseAdaptation, type Adaptation } from './adaptation.js';
import { Batches } from './batches.js';
import { stepsForTokens } from './budget.js';
import { checkObjective } from './check-objective.js';
import { Checkpoints } from './checkpoint.js';
import { AUTO } from './context.js';
import { readTrainingData, type Example } from './data.js';
import { differencesOf } from './differences.js';
import { feedOf, withTargets, type Feed } from './feed.js';
import { hardNegatives } from './hard-negatives.js';
import { LogFile, readRun } from './log-file.js';
import { modelCard, withoutFolders } from './model-card.js';
import { takeApart, type Partners } from './partners.js';
import { presetNamed } from './presets.js';
import { knowsMore, learnsVectors, type Recipe } from './recipe.js';
import { trainingReport } from './report.js';
import { beforeAndAfter } from './report/verdict.js';
import type { AdaptEntry, DataFile, EvaluationEntry, Run, RunStart, StepEntry } from './run-log.js';
import { withSettings } from './settings.js';
import {
  cutWeights,
  randomWeights,
  studentConfig,
  studentVocabulary,
  type StudentVocabulary,
} from './student.js';
import { parseStudentShape, type StudentShape } from './student-shape.js';
import { sharedWord } from './shared-word.js';
import { targetTexts } from './target-texts.js';
import { targetVectors } from './target-vectors.js';
import { Teacher } from './teacher.js';
import { TensorBoard } from './tensorboard.js';
import { loadTensorFlow, type TF } from './tensorflow/load.js';
import { measureSource } from './tensorflow/measure.js';
import { Ops } from './tensorflow/ops.js';
import { bf16Speedup, choosePrecision } from './tensorflow/probe-precision.js';
import { openTrainable } from './tensorflow/trainable-bert.js';
import { train, type Outcome } from './train.js';
import { tensorFlowEncoder } from './tensorflow-encoder.js';
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
  /** What to fit behind the pooling, see parseAdaptation. */
  adapt?: string;
  /** Fit `adapt` to the base encoder as it is: not a step of training. */
  adaptOnly?: boolean;
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
  onAdapt?(entry: AdaptEntry): void;
  onEvaluationProgress?(spec: string, done: number, total: number): void;
  /** The teacher encodes the texts. */
  onTeacherProgress?(done: number, total: number): void;
  /** The texts are encoded that an adaptation is fitted on. */
  onAdaptProgress?(done: number, total: number): void;
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

/**
 * Trains or adapts an encoder, or both, and writes its model folder. It appears in one rename when the run is done; until then, and
 * after an interruption or kill -9, everything needed to go on is in the run's folder.
 *
 * @throws UserError for data, settings or a model that can't be used; `exists` when `out` or an unfinished run
 *   is there; `unavailable` without TensorFlow, with a full disk, or when another run is at work with that `out`; `backend` for a collapse
 */
export async function finetune(options: FinetuneOptions): Promise<FinetuneResult> {
  const { out, adaptOnly, onNote } = options;
  await refuseMade(out);
  const plan = await planOf(options);
  try {
    const unlock = await lockRun(runFolderOf(out), onNote);
    try {
      // By whoever had it.
      await refuseMade(out);
      const { adaptation } = plan;
      if (adaptOnly && adaptation) return await adaptBase(adaptation, plan, options);
      return await carryOut(plan, options);
    } finally {
      unlock();
    }
  } finally {
    await plan.teacher?.close();
  }
}

async function refuseMade(out: string): Promise<void> {
  if (await exists(out))
    throw new UserError('exists', `${out}: already there; name another folder with --out or remove it first`);
}

/** All that is known of a run before TensorFlow is loaded. */
interface Plan {
  recipe: Recipe;
  /** None for an adaptation alone. */
  steps: number;
  adaptation?: Adaptation;
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
  /** distill: what pairs say of a text. */
  partners?: Partners;
  /** Both sides of each. */
  allTexts: string[];
  batches: Batches;
  feed: Feed;
  evaluations: Evaluation[];
}

/** Reads everything that can be wrong. @throws UserError as finetune */
async function planOf(options: FinetuneOptions): Promise<Plan> {
  const { adaptOnly = false, onNote } = options;
  const recipe = withSettings(presetNamed(options.preset), options.settings);
  const check = (): void =>
    checkObjective(recipe, { teacher: options.teacher !== undefined, pairs: options.pairs.length > 0 });
  if (!adaptOnly) check();
  for (const [name, wanted] of [
    ['--keep-if-better', options.keepIfBetter],
    ['--set patience', recipe.patience > 0],
  ] as const)
    if (wanted && options.evaluations.length === 0)
      throw new UserError('usage', `${name}: expected --eval to measure by, found none`);
  const adaptation = options.adapt === undefined ? undefined : parseAdaptation(options.adapt);
  const base = await openModelFolder(options.base.dir, options.base.name);
  base.notes.forEach(onNote);
  const baseWeights = await loadWeights(base);
  const sides = recipe.views.some(usesTitleOrBody);
  const { examples: read, files, notes } = await readTrainingData({ ...options, sides });
  notes.forEach(onNote);
  const apart = recipe.objective === 'distill' ? takeApart(read) : undefined;
  const examples = apart?.texts ?? read;
  const evaluations = [];
  for (const spec of options.evaluations) {
    const evaluation = await openEvaluation(spec, { split: options.split });
    evaluation.notes.forEach(onNote);
    evaluations.push(evaluation);
  }

  const allTexts = examples.flatMap(({ first, second }) => [first, second]);
  if (recipe.context === AUTO && learnsVectors(recipe) && !adaptOnly) {
    recipe.context = sharedContext(allTexts, onNote);
    // Without words there may be nothing left to learn.
    check();
  }
  const pooling = recipe.pooling === 'model' ? base.pooling : recipe.pooling;
  const trained: ModelFolder = { ...base, pooling };
  let student: Plan['student'];
  if (options.student !== undefined) {
    const shape = parseStudentShape(options.student, base.config);
    const vocabulary = studentVocabulary(base, shape, [...new Set(allTexts)]);
    student = { shape, vocabulary };
    trained.config = studentConfig(base.config, shape, vocabulary.pieces.length);
    trained.tokenizer = vocabulary.tokenizer;
  }
  if (base.dense.length > 0 && !adaptOnly) {
    // They were made for the vectors that the base encoder pools: where others take their place they are of no use.
    const others = options.teacher !== undefined && learnsVectors(recipe);
    const leaves = student !== undefined || (others && recipe.objective === 'distill');
    if (leaves) trained.dense = [];
    else if (others)
      throw new UserError(
        'usage',
        `--teacher: expected a base without Dense modules, as keepWeight holds what they are behind near to another encoder's vectors, found ${base.dense.length} in ${base.name}; without --teacher it stays near to its own`,
      );
    onNote(
      leaves
        ? `${base.name} has Dense modules behind its pooling; they are left out, for the vectors before them become others`
        : `${base.name} has Dense modules behind its pooling; they stay as they are, and the vectors before them are trained`,
    );
  }
  if (adaptation) checkAdaptation(adaptation, dimensionsOf(trained), new Set(allTexts).size);
  // An adaptation has no batches: any number of texts will do.
  const batches = new Batches(examples, adaptOnly ? { ...recipe, batch: 1, pairShare: 0 } : recipe);
  const threads = options.threads ?? availableParallelism();
  const { config, tokenizer: tokenizerFiles } = trained;
  const tokenizer = loadTokenizer(trained, Math.min(recipe.maxTokens, config.maxPositions));
  const feed = feedOf(batches, { tokenizer, files: tokenizerFiles }, recipe);
  const stepsByTokens = await stepsForTokens(feed, recipe.tokens);
  const asks = learnsVectors(recipe) || recipe.hardNegatives > 0;
  let teacher: Teacher | undefined;
  if (options.teacher !== undefined) teacher = await Teacher.open(options.teacher);
  else if (asks && !adaptOnly)
    // What is learned are the vectors before Dense modules that stay.
    teacher = await Teacher.open(options.base.dir, { dense: trained.dense.length === 0 });
  if (learnsVectors(recipe)) teacher?.expectRoomFor(config.hiddenSize);
  return {
    ...{ recipe, adaptation, threads, base, baseWeights, trained, student },
    ...{ files, examples, partners: apart?.partners, allTexts, batches, feed, evaluations },
    steps: adaptOnly ? 0 : stepsByTokens || recipe.maxSteps || recipe.epochs * batches.stepsPerEpoch,
    fingerprint: fingerprintOf(base, weightsDigest(base.config, baseWeights), 'fp32'),
    teacher,
  };
}

async function carryOut(plan: Plan, options: FinetuneOptions): Promise<FinetuneResult> {
  const { recipe, steps, threads, trained, teacher, batches } = plan;
  const { out, onNote } = options;
  const { config, pooling } = trained;
  const folder = runFolderOf(out);
  const at = (name: string): string => path.join(folder, name);
  const checkpoints = new Checkpoints(folder, identityOf(plan, options));
  const from = await startingPoint(checkpoints, options);

  const tf = await loadTensorFlow({ threads });
  const ops = new Ops(tf);
  const precision = from?.checkpoint.precision ?? choosePrecision(tf, recipe.precision);
  if (precision === 'bf16' && recipe.precision !== 'auto') {
    const speedup = bf16Speedup(tf);
    if (speedup < 1)
      onNote(
        `bf16 is slow on this processor: a product takes ${(1 / speedup).toFixed(1)} times as long as in fp32`,
      );
  }
  let { feed } = plan;
  if (teacher) {
    const { signal, onTeacherProgress: onProgress } = options;
    await teacher.start({ tf, precision, threads });
    if (recipe.hardNegatives > 0) {
      await teacher.prepare(new Set(plan.allTexts), { signal, onProgress });
      batches.harden(await hardNegatives(ops, teacher, plan.examples, recipe.seed));
    }
    if (learnsVectors(recipe)) {
      const learned = textsOfSteps(plan);
      const { partners } = plan;
      const texts = needsAll(plan)
        ? targetTexts(new Set(plan.allTexts), learned, partners, recipe.seed)
        : learned;
      const more = { signal, onProgress, partners, learned };
      const targets = await targetVectors(ops, teacher, texts, config.hiddenSize, recipe, more);
      feed = withTargets(feed, batches, targets);
    }
    await teacher.release();
  }
  const weights = firstWeights(ops, plan);
  const model = await openTrainable({
    ...{ config, weights, pooling, steps, threads },
    recipe: { ...recipe, precision },
  });
  if (from) await model.restore(from.state);
  const start = startOf(plan, options, tf, precision);
  if (!from) await emptyRun(folder);
  const log = await LogFile.open(at('log.jsonl'), { keepThrough: from?.checkpoint.step });
  const board = new TensorBoard(tf, at('tensorboard'), recipe);
  let outcome: Outcome;
  let made: Made | undefined;
  try {
    if (!from) await log.write(start);
    options.onStart?.(start);
    outcome = await train({
      model,
      feed,
      recipe,
      steps,
      precision,
      dimensions: config.hiddenSize,
      evaluations: plan.evaluations,
      encoder: tensorFlowEncoder(model, loadTokenizer(trained), trained),
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
    const bestStep = best?.step ?? step;
    let adapted: AdaptEntry | undefined;
    if (status === 'finished') {
      made = { ...trained, weights: best ? await checkpoints.loadBest(best) : await model.weights() };
      model.dispose();
      if (plan.adaptation) {
        const [dir, vectors] = [at('unadapted'), at('unadapted-vectors')];
        const clear = (): Promise<void[]> =>
          Promise.all([dir, vectors].map((part) => rm(part, { recursive: true, force: true })));
        await clear();
        await writeModelFolder(dir, { ...made, card: '', provenance: {} });
        const trainedOptions = { ...adaptOptions(plan, options), dir, vectors: () => vectors };
        const { layer, entry } = await adapt(ops, plan.adaptation, trainedOptions);
        await clear();
        made.dense = [...made.dense, layer];
        adapted = entry;
        await log.write(entry);
        options.onAdapt?.(entry);
      }
    }
    if (status !== 'interrupted') {
      const { evaluations } = await readRun(at('log.jsonl'));
      const results = (wanted: number): EvaluationEntry['results'] =>
        evaluations.find((entry) => entry.step === wanted)?.results ?? [];
      await log.write({
        type: 'end',
        time: new Date().toISOString(),
        reason: status,
        ...{ step, bestStep, seconds, cpuSeconds },
        // In kilobytes (getrusage).
        peakMemory: process.resourceUsage().maxRSS * 1024,
        differences: differencesOf(results(0), adapted?.results ?? results(bestStep)),
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
  if (status === 'collapsed') {
    // It would only collapse again: the advice is for a run from the start.
    await checkpoints.remove();
    throw new UserError('backend', `${outcome.explanation}. What happened is in ${at('report.html')}`);
  }
  if (options.keepIfBetter && !isBetter(run)) {
    await checkpoints.remove();
    return { status: 'no-better', run, step: best?.step ?? step, report: at('report.html') };
  }
  await exportEncoder(made!, plan, options, run);
  await checkpoints.remove();
  return { status, run, step: best?.step ?? step, report: at('report.html') };
}

/** Fits an adaptation to the base encoder as it is. */
async function adaptBase(
  adaptation: Adaptation,
  plan: Plan,
  options: FinetuneOptions,
): Promise<FinetuneResult> {
  const { base, baseWeights, threads } = plan;
  const folder = runFolderOf(options.out);
  const at = (name: string): string => path.join(folder, name);
  await startingPoint(new Checkpoints(folder, identityOf(plan, options)), options);
  const tf = await loadTensorFlow({ threads });
  const start = startOf(plan, options, tf, 'fp32');
  await emptyRun(folder);
  const log = await LogFile.open(at('log.jsonl'));
  let adapted: Adapted;
  try {
    await log.write(start);
    options.onStart?.(start);
    const vectors = (fingerprint: string): string => cacheFolder('vectors', fingerprint);
    const baseOptions = { ...adaptOptions(plan, options), dir: base.dir, vectors };
    adapted = await adapt(new Ops(tf), adaptation, baseOptions);
    const { before, entry } = adapted;
    if (before.length > 0) {
      const evaluation: EvaluationEntry = { type: 'evaluation', step: 0, results: before };
      await log.write(evaluation);
      options.onEvaluation?.(evaluation);
    }
    await log.write(entry);
    options.onAdapt?.(entry);
    const time = new Date().toISOString();
    await log.write({
      ...{ type: 'end', time, reason: 'finished', step: 0, bestStep: 0, seconds: entry.seconds },
      differences: entry.comparisons,
    });
  } finally {
    await log.close();
  }
  const run = await readRun(at('log.jsonl'));
  await writeFileAtomic(at('report.html'), trainingReport(run));
  if (options.keepIfBetter && !isBetter(run))
    return { status: 'no-better', run, step: 0, report: at('report.html') };
  const made = { ...base, weights: baseWeights, dense: [...base.dense, adapted.layer] };
  await exportEncoder(made, plan, options, run);
  return { status: 'finished', run, step: 0, report: at('report.html') };
}

/** An encoder that is done, but for what is said of it. */
type Made = Omit<ModelContent, keyof Origin>;

async function exportEncoder(made: Made, { base }: Plan, { out }: FinetuneOptions, run: Run): Promise<void> {
  await writeModelFolder(out, {
    ...made,
    card: modelCard({
      name: path.basename(path.resolve(out)),
      run,
      base: base.name,
      license: await licenseOf(base),
      dimensions: dimensionsOf(made),
      maxTokens: base.maxTokens,
      pooling: made.pooling,
      hasDense: made.dense.length > 0,
    }),
    provenance: provenanceOf(run),
  });
}

/** What must be the same for a run to go on. */
function identityOf(plan: Plan, { evaluations, field, split }: FinetuneOptions): object {
  const { recipe, steps, adaptation, files, fingerprint, teacher, student } = plan;
  const digests = files.map(({ kind, count, sha256 }) => ({ kind, count, sha256 }));
  return {
    ...{ recipe, steps, data: digests, base: fingerprint, evaluations },
    ...(teacher && { teacher: teacher.fingerprint }),
    ...(student && { student: student.shape }),
    ...(adaptation && { adapt: adaptationText(adaptation) }),
    ...(field !== undefined && { field }),
    ...(split !== undefined && { split }),
  };
}

function startOf(
  plan: Plan,
  { preset, teacher: named }: FinetuneOptions,
  tf: TF,
  precision: RunStart['recipe']['precision'],
): RunStart {
  const { recipe, steps, adaptation, threads, base, fingerprint, trained, teacher, student, files } = plan;
  const { layers } = trained.config;
  return {
    type: 'start',
    time: new Date().toISOString(),
    version,
    preset,
    recipe,
    steps,
    data: files,
    base: { name: base.name, fingerprint, dimensions: dimensionsOf(trained), layers },
    // Its own teacher goes by the name that the user knows, not by its folder's.
    ...(teacher && {
      teacher: { name: named === undefined ? base.name : teacher.name, fingerprint: teacher.fingerprint },
    }),
    ...(student && { student: student.shape }),
    ...(adaptation && { adapt: adaptationText(adaptation) }),
    environment: {
      node: process.versions.node,
      tensorflow: tf.backend().binding.TF_Version,
      processor: cpus()[0]?.model ?? 'unknown',
      threads,
      precision,
    },
  };
}

function adaptOptions(plan: Plan, options: FinetuneOptions): Omit<AdaptOptions, 'dir' | 'vectors'> {
  const { threads, evaluations, allTexts: texts, recipe } = plan;
  const { signal, onAdaptProgress: onProgress, onEvaluationProgress } = options;
  return { texts, seed: recipe.seed, threads, evaluations, signal, onProgress, onEvaluationProgress };
}

/** The word that the texts share, behind a text and before it, or none; and in either case what a person could say instead. */
function sharedContext(texts: readonly string[], note: (line: string) => void): string {
  const shared = sharedWord([...new Set(texts)]);
  note(
    shared
      ? `context: ${JSON.stringify(shared.word)}, which ${Math.round(100 * shared.share)} % of the texts have; --set context=WORDS says others, context= none`
      : 'context: no word is in a fifth of the texts; --set context=WORDS says what they are about',
  );
  return shared ? `${shared.word}|${shared.word}: {}` : '';
}

/** Whether the vectors to be learned depend on all texts: with context, on what they have in common. */
function needsAll({ recipe, partners }: Plan): boolean {
  return knowsMore(recipe) || Boolean(partners?.size);
}

/** The texts whose vectors a run's steps learn; hard negatives can be any. */
function textsOfSteps({ recipe, batches, steps, allTexts }: Plan): Set<string> {
  if (recipe.hardNegatives > 0) return new Set(allTexts);
  const texts = new Set<string>();
  for (let step = 1; step <= steps; step++)
    for (const text of batches.originalsAt(step).flat()) texts.add(text);
  return texts;
}

/** The weights that training begins with: the base encoder's, or a student's. */
function firstWeights(
  ops: Ops,
  { recipe, base, baseWeights, trained: { config }, student, allTexts }: Plan,
): ReadonlyMap<string, Tensor> {
  if (!student) return baseWeights;
  const { shape, vocabulary } = student;
  const { seed, maxTokens } = recipe;
  if (shape.init === 'random') return randomWeights(config, seed);
  const sample = new Random(seed, SAMPLE).shuffle([...new Set(allTexts)]).slice(0, MEASURED_TEXTS);
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
  const training = steps > 0 ? { preset, recipe, steps, bestStep } : { seed: recipe.seed };
  return {
    format: 1,
    ...{ version, time, ...training, data, base, teacher, student, environment },
    ...(run.adapted && { adaptation: adaptationOf(run.adapted) }),
    ...beforeAndAfter(run),
  };
}

function adaptationOf({ adaptation, texts, dimensions, variance, comparisons }: AdaptEntry): object {
  return { steps: adaptation, texts, dimensions, variance, comparisons };
}

/** The licence that the base encoder's card states. */
async function licenseOf({ dir }: ModelFolder): Promise<string | undefined> {
  const card = await readFile(path.join(dir, 'README.md'), 'utf8').catch(() => '');
  const front = /^---\r?\n(.*?)\r?\n---/s.exec(card)?.[1];
  if (front === undefined) return undefined;
  try {
    const { license } = (load(front) ?? {}) as { license?: unknown };
    return typeof license === 'string' ? license : undefined;
  } catch {
    return undefined; // A card is prose: one that can't be read is no reason to fail.
  }
}
