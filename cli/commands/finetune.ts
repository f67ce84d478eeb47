import { Command, Option } from 'commander';

import { UserError } from '../../base/errors.js';
import { DEFAULT_MODEL } from '../../encoder/resolve.js';
import { choosePreset, DEFAULT_PRESET, OBJECTIVES, presetNamed, PRESETS } from '../../trainer/presets.js';
import type { ObjectiveName } from '../../trainer/recipe.js';
import { SETTING_NAMES } from '../../trainer/settings.js';
import { VIEW_NAMES } from '../../trainer/views/make-view.js';
import { findModelWithProgress } from '../find-model.js';
import { integerFrom } from '../options.js';
import { TrainingProgress } from '../training-progress.js';
import { jsonSummary, textSummary } from '../training-summary.js';

interface Options {
  data: string[];
  pairs: string[];
  field?: string;
  out: string;
  model?: string;
  objective?: ObjectiveName;
  teacher?: string;
  student?: string;
  adapt?: string;
  preset?: string;
  eval: string[];
  split?: string;
  batch?: number;
  epochs?: number;
  maxSteps?: number;
  seed?: number;
  precision?: string;
  threads?: number;
  resume?: boolean;
  keepIfBetter?: boolean;
  set: string[];
  json?: boolean;
}

/** Options that ask for training: without any of them --adapt does none. */
const TRAINS = [
  'objective',
  'preset',
  'teacher',
  'student',
  'batch',
  'epochs',
  'maxSteps',
  'precision',
] as const;

/** Options that are settings of the recipe as well. */
const SETTINGS = ['batch', 'epochs', 'maxSteps', 'seed', 'precision'] as const;

export function finetuneCommand(): Command {
  return new Command('finetune')
    .description('Adapt a sentence encoder to your own text, without labels, and write a model folder.')
    .option(
      '--data <file...>',
      'texts: .txt (a text a line), .tsv or .csv, .jsonl; .gz too; - is the standard input',
      [],
    )
    .option('--pairs <file...>', 'texts that mean the same: .tsv or .csv of two columns, or .jsonl', [])
    .option('--field <name>', 'the column or field of --data that holds the text')
    .requiredOption('--out <dir>', 'the model folder to make; checkpoints, log and report go to DIR.training')
    .option('--model <dir|name>', `the encoder to start from (default: ${DEFAULT_MODEL})`)
    .addOption(
      new Option(
        '--objective <name>',
        `vicreg, barlow-twins: two views of a text predict each other; simcse, infonce: a text is told from others by its other view; tsdae: a text is written anew from its vector; distill: learn the vectors of --teacher; mlm: guess masked words (default: ${presetNamed(DEFAULT_PRESET).objective}, by the preset ${DEFAULT_PRESET})`,
      ).choices(OBJECTIVES),
    )
    .option(
      '--teacher <dir|name>',
      'distill: the encoder to learn from; the one to start from is its own with the presets context and surroundings, and with --set keepWeight',
    )
    .option(
      '--student <shape>',
      'train a new, smaller encoder that is cut out of the teacher (distill) or of --model, as layers=4,hidden=256,heads=8,intermediate=1024,vocab=16000',
    )
    .option(
      '--adapt <what>',
      'fit center, whiten, pca=N or several of them, as center,pca=N, to the texts, behind the pooling; without training, unless an option of training is there too',
    )
    .addOption(
      new Option(
        '--preset <name>',
        `the recipe (default: the one of the objective, or ${DEFAULT_PRESET})`,
      ).choices(Object.keys(PRESETS)),
    )
    .option(
      '--eval <spec...>',
      'measure on beir:DIR, sts:FILE or askubuntu:DIR before, during and after; the first one chooses the weights',
      [],
    )
    .option('--split <name>', 'the split of beir: and askubuntu: (default: test)')
    .addOption(new Option('--batch <n>', 'texts a step').argParser(integerFrom(2, 1e6)))
    .addOption(new Option('--epochs <n>', 'how often each text is seen').argParser(integerFrom(1, 1e6)))
    .addOption(new Option('--max-steps <n>', 'steps, instead of --epochs').argParser(integerFrom(1, 1e9)))
    .addOption(
      new Option('--seed <n>', 'same seed, machine and threads: same losses').argParser(
        integerFrom(0, 2 ** 31),
      ),
    )
    .addOption(
      new Option(
        '--precision <precision>',
        'of the matrix products; auto: bf16 where this processor is faster with it (default: auto)',
      ).choices(['auto', 'fp32', 'bf16']),
    )
    .addOption(
      new Option('--threads <n>', 'cores to compute with (default: all)').argParser(integerFrom(1, 1024)),
    )
    .option(
      '--keep-if-better',
      'export only what is better than the start, beyond chance (paired bootstrap), on the first --eval; else exit with 1',
    )
    .option('--resume', 'go on from the last checkpoint, with the same options')
    .option('--set <key=value...>', 'change a setting of the recipe', [])
    .option('--json', 'print one JSON object at the end')
    .addHelpText(
      'after',
      `
Ctrl-C writes a checkpoint; the same command with --resume goes on, and so it does after a crash.

Settings of the recipe, for --set, with the values of the preset "${DEFAULT_PRESET}", which is used unless an objective or a preset is named:
${settingsHelp()}
Other presets differ in:
${differencesHelp()}
Views: ${VIEW_NAMES.join(', ')};
several are joined by +, as in views=same,word-crop+typos.
context: words that a reader of your texts would add, or phrasings with {} for the text: context='Ubuntu|Ask Ubuntu: {}';
auto: the word that most texts share, if a fifth of them do; context= for none.

--adapt takes the mean of your texts' vectors away (center), brings the directions in which they lie to the same
variance (whiten; whiten=0.5 half-way), and keeps the N in which they lie most (pca=N): a smaller index, and perhaps a
better one, in minutes. whiten is for an encoder that was not trained on sentences; a good one gets worse by it. Alone
--adapt changes no weight; beside --objective, --preset, --pairs, --teacher, --student, --batch, --epochs, --max-steps,
--precision or --set it is fitted behind the training.

Of --student, what is left out is as in the encoder that it is cut out of. take=0+5 names the layers to begin with,
init=random begins from nothing, vocabulary=trained learns one on the data (pruned: the tokens that the data uses).
The teacher's vectors are kept in the cache folder: a second run has them.

Examples:
  sentence-jepa finetune --data titles.txt --out ./my-encoder
  sentence-jepa finetune --data titles.txt --pairs duplicates.tsv --out ./my-encoder --eval beir:./dev
  sentence-jepa finetune --data titles.txt --out ./adapted --adapt center,pca=256 --eval beir:./dev
  sentence-jepa finetune --data posts.csv --field title --out ./my-encoder --eval beir:./dev --max-steps 500
  sentence-jepa finetune --data titles.txt --out ./crops --objective vicreg --set views=same,word-crop+typos
  sentence-jepa finetune --pairs duplicates.tsv --out ./contrastive --objective infonce --batch 128
  sentence-jepa finetune --data titles.txt --out ./sketch --preset sketch-2022 --seed 2
  sentence-jepa finetune --data titles.txt docs.txt --out ./small --objective distill --teacher all-MiniLM-L6-v2 \\
    --student layers=2,intermediate=1024,take=0+5,vocab=16000
  sentence-jepa finetune --data docs.txt --out ./pretrained --objective mlm --epochs 3`,
    )
    .action(run);
}

function settingsHelp(): string {
  const recipe = presetNamed(DEFAULT_PRESET) as unknown as Record<string, unknown>;
  return SETTING_NAMES.map((name) => `  ${name.padEnd(20)} ${String(recipe[name])}\n`).join('');
}

function differencesHelp(): string {
  const usual = presetNamed(DEFAULT_PRESET) as unknown as Record<string, unknown>;
  return Object.entries(PRESETS)
    .filter(([name]) => name !== DEFAULT_PRESET)
    .map(([name, recipe]) => {
      const own = Object.entries(recipe).filter(
        ([key, value]) => key !== 'objective' && String(value) !== String(usual[key]),
      );
      return `  ${name}: ${own.map(([key, value]) => `${key}=${value}`).join(' ') || 'the objective alone'}\n`;
    })
    .join('');
}

async function run(options: Options): Promise<void> {
  if (options.data.length + options.pairs.length === 0)
    throw new UserError('usage', 'nothing to train on: expected --data FILE or --pairs FILE');
  const named = SETTINGS.flatMap((name) => (options[name] === undefined ? [] : [`${name}=${options[name]}`]));
  const { teacher, student, model } = options;
  if (teacher !== undefined && student !== undefined && model !== undefined)
    throw new UserError(
      'usage',
      `--student: expected a student cut out of the teacher ${teacher}, found --model ${model} too; leave one of the two out`,
    );
  const trains =
    options.adapt === undefined ||
    options.pairs.length + options.set.length > 0 ||
    TRAINS.some((name) => options[name] !== undefined);
  const preset = choosePreset(options.preset, options.objective);
  // Only this command needs the trainer, and what it loads.
  const { finetune } = await import('../../trainer/finetune.js');
  const taughtBy = teacher === undefined ? undefined : await findModelWithProgress(teacher);
  const base =
    student !== undefined && taughtBy ? taughtBy : await findModelWithProgress(model ?? DEFAULT_MODEL);
  const progress = new TrainingProgress();
  const interruption = new AbortController();
  const interrupt = (): void => {
    if (interruption.signal.aborted) return;
    progress.note(
      trains
        ? 'stopping behind this step, with a checkpoint (again to stop at once)'
        : 'stopping (again to stop at once)',
    );
    // Once only: the second Ctrl-C is the system's.
    interruption.abort();
  };
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  // Started by another process, as an experiment's runs are: without it nobody waits for the result.
  process.once('disconnect', interrupt);
  if (process.connected === false) interrupt();
  try {
    const result = await finetune({
      base,
      out: options.out,
      data: options.data,
      pairs: options.pairs,
      field: options.field,
      preset,
      teacher,
      student,
      adapt: options.adapt,
      adaptOnly: !trains,
      settings: [...named, ...options.set],
      evaluations: options.eval,
      split: options.split,
      resume: options.resume ?? false,
      keepIfBetter: options.keepIfBetter,
      threads: options.threads,
      signal: interruption.signal,
      onNote: (note) => progress.note(`note: ${note}`),
      onStart: (start) => progress.start(start),
      onStep: (entry) => progress.step(entry),
      onEvaluation: (entry) => progress.evaluation(entry),
      onEvaluationProgress: (spec, done, total) => progress.evaluating(spec, done, total),
      onTeacherProgress: (done, total) => progress.teaching(done, total),
      onAdaptProgress: (done, total) => progress.adapting(done, total),
      onAdapt: (entry) => progress.adapted(entry),
    });
    progress.stop();
    console.log(
      options.json ? JSON.stringify(jsonSummary(result, options.out)) : textSummary(result, options.out),
    );
    if (result.status !== 'finished') process.exitCode = 1;
  } finally {
    progress.stop();
    process.removeListener('SIGINT', interrupt);
    process.removeListener('SIGTERM', interrupt);
    process.removeListener('disconnect', interrupt);
  }
}
