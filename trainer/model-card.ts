import path from 'node:path';

import { dump } from 'js-yaml';

import { KNOWN_MODELS } from '../encoder/resolve.js';
import type { Recipe } from './recipe.js';
import { comparisons, exportedStep, percent, verdict } from './report/verdict.js';
import type { AdaptEntry, Run, RunStart } from './run-log.js';
import { firstOfLast } from './schedule.js';

/**
 * The README.md of a trained encoder's folder: a model card as the Hugging Face Hub reads it. Of files and
 * folders it gives the last name only: the rest is of interest to nobody but the one who trained.
 *
 * @param options.base name of the encoder that it was trained from
 * @param options.hasDense whether the folder has Dense modules behind its pooling
 * @param options.license the base encoder's, when its card states one
 */
export function modelCard(options: {
  name: string;
  run: Run;
  base: string;
  license?: string;
  dimensions: number;
  maxTokens: number;
  pooling: string;
  hasDense: boolean;
}): string {
  const { base, license, dimensions, maxTokens, pooling, hasDense } = options;
  const { name } = options;
  const run = withoutFolders(options.run);
  const { start, adapted } = run;
  const repository = Object.hasOwn(KNOWN_MODELS, base) ? KNOWN_MODELS[base].repository : base;
  const front = {
    library_name: 'sentence-transformers',
    pipeline_tag: 'sentence-similarity',
    tags: [
      'sentence-transformers',
      'sentence-similarity',
      'feature-extraction',
      'transformers.js',
      'sentence-jepa',
    ],
    // The Hub takes nothing but ORGANIZATION/NAME.
    ...(repository.includes('/') && { base_model: repository }),
    ...(license !== undefined && { license }),
  };
  const kinds = [...new Set(start.data.map(({ kind }) => kind))];
  const countOf = (wanted: string): number =>
    start.data.reduce((sum, { kind, count }) => sum + (kind === wanted ? count : 0), 0);
  const trainedOn = kinds.map((kind) => `${whole(countOf(kind))} ${kind}`).join(' and ');
  const { objective } = start.recipe;

  return `---
${dump(front)}---

# ${line(name)}

A sentence encoder: it turns a text of up to ${maxTokens} tokens into a vector of ${dimensions} numbers, and texts that
mean the same into vectors with a high cosine. It is ${originOf(start)} by sentence-jepa
${start.version} on ${trainedOn}.

## Results

${resultsOf(run)}

## How it was made

${[...(start.steps > 0 ? [trainingOf(run, pooling)] : []), ...(adapted ? [adaptationOf(start, adapted)] : [])].join('\n\n')}

${table(
  ['data', 'kind', 'count', 'SHA-256'],
  start.data.map(({ file, kind, count, sha256 }) => [code(file), kind, whole(count), code(sha256)]),
)}

${start.steps > 0 ? `${recipeTable(start)}\n\n` : ''}The same, with the base encoder's fingerprint and the versions, is in \`sentence-jepa.json\`.

## How to use it

With sentence-jepa, behind \`/embed\` and \`/search\`:

\`\`\`sh
sentence-jepa serve --model "./${name}"
\`\`\`

With [sentence-transformers](https://sbert.net):

\`\`\`python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(${JSON.stringify(`./${name}`)})
vectors = model.encode(["a text", "another text"])
print(model.similarity(vectors, vectors))
\`\`\`

With [Transformers.js](https://huggingface.co/docs/transformers.js):

\`\`\`js
${transformersJs(name, pooling, hasDense)}
\`\`\`

With [text-embeddings-inference](https://github.com/huggingface/text-embeddings-inference):

\`\`\`sh
docker run -p 8080:80 -v "$PWD/${name}:/model" ghcr.io/huggingface/text-embeddings-inference:cpu-1.8 --model-id /model
\`\`\`

## Limits

- A text is cut off after ${maxTokens} tokens; what comes behind does not count. Transformers.js cuts off the closing \`[SEP]\`
  with it: vectors of longer texts differ a little there.
${objective === 'mlm' && start.steps > 0 ? '- It has learned words, not yet which texts mean the same: train it further, on texts or by a teacher.\n' : ''}- It was adapted to texts like those it was ${start.steps > 0 ? 'trained' : 'fitted'} on. On others the base encoder may be better: measure both.
- A high cosine is no proof that two texts mean the same: choose the threshold on data of your own.
- Languages, and biases, are those of the base encoder and of the data.
- Its vectors can't be compared with ${objective === 'distill' ? "the teacher's, though they are near to them" : "the base encoder's"}: embed a collection again before
  searching it.
`;
}

/** The lines for Transformers.js. Its pipeline pools hidden states, and knows nothing of Dense modules. */
function transformersJs(name: string, pooling: string, hasDense: boolean): string {
  if (!hasDense)
    return `import { env, pipeline } from "@huggingface/transformers";

env.localModelPath = ".";
const embed = await pipeline("feature-extraction", ${JSON.stringify(name)}, { dtype: "fp32" });
const vectors = await embed(["a text", "another text"], { pooling: "${pooling}", normalize: true });`;
  return `import { AutoModel, AutoTokenizer, env } from "@huggingface/transformers";

env.localModelPath = ".";
const tokenizer = await AutoTokenizer.from_pretrained(${JSON.stringify(name)});
const model = await AutoModel.from_pretrained(${JSON.stringify(name)}, { dtype: "fp32" });
const inputs = await tokenizer(["a text", "another text"], { padding: true, truncation: true });
// Pooled, through the Dense module, of length 1: the pipeline "feature-extraction" would leave the module out.
const { sentence_embedding: vectors } = await model(inputs);`;
}

/** "`base`, trained further": what the encoder is. */
function originOf({ base, teacher, student, recipe, steps, adapt }: RunStart): string {
  if (steps === 0) return `${code(base.name)} with ${code(adapt!)} behind its pooling, fitted`;
  if (student) {
    const { layers, hidden, intermediate } = student;
    const shape = `${layers} ${layers === 1 ? 'layer' : 'layers'} of ${hidden}, feed-forward ${intermediate}`;
    const from = student.init === 'source' ? 'begun with parts of its weights' : 'begun from nothing';
    return teacher
      ? `a smaller encoder (${shape}) distilled from ${code(teacher.name)} and ${from},`
      : `a new encoder (${shape}) in the manner of ${code(base.name)}, ${from} and trained`;
  }
  if (teacher && recipe.objective === 'distill')
    return teacher.name === base.name
      ? `${code(base.name)}, taught what it says of a text in its context`
      : `${code(base.name)}, taught the vectors of ${code(teacher.name)}`;
  return `${code(base.name)}, trained further${recipe.objective === 'mlm' ? ' to guess masked words' : ''}`;
}

function trainingOf({ start, end }: Run, pooling: string): string {
  return `${methodOf(start)}
Preset ${code(start.preset)}, seed ${start.recipe.seed}, ${whole(end?.bestStep ?? start.steps)} of ${whole(start.steps)} steps,
${pooling} pooling.${weightsOf(start, end?.bestStep ?? start.steps)}`;
}

/** Which weights are these, where they are not those of the last step alone. */
function weightsOf({ recipe, steps }: RunStart, step: number): string {
  const { averageDecay, averageLast, baseShare } = recipe;
  const from = averageLast > 0 ? firstOfLast(averageLast, steps) : step;
  const isAverage = averageDecay > 0 || from < step;
  const average = !isAverage
    ? 'those that were trained'
    : averageDecay > 0
      ? `an average over the steps (decay ${averageDecay})`
      : `the average of those of the steps ${whole(from)} to ${whole(step)}`;
  if (baseShare > 0)
    return `
The weights are ${percent(baseShare)} % of those it began with, and for the rest ${average} (Wortsman et al. 2022,
[arXiv 2109.01903](https://arxiv.org/abs/2109.01903)).`;
  return isAverage ? `\nThe weights are ${average}.` : '';
}

/** What is fitted behind the pooling, with its sources. */
function adaptationOf({ steps, recipe }: RunStart, { adaptation, texts, variance }: AdaptEntry): string {
  const parts = [
    ...(adaptation.includes('center')
      ? [
          'the mean of the vectors is taken away (Mu and Viswanath 2018, [arXiv 1702.01417](https://arxiv.org/abs/1702.01417))',
        ]
      : []),
    ...(adaptation.includes('whiten')
      ? [
          'the directions in which they lie are brought nearer to the same variance (Su et al. 2021, [arXiv 2103.15316](https://arxiv.org/abs/2103.15316))',
        ]
      : []),
    ...(adaptation.includes('pca')
      ? [
          `the directions are kept in which they lie most, ${percent(variance)} % of their variance (Su et al. 2021, [arXiv 2103.15316](https://arxiv.org/abs/2103.15316))`,
        ]
      : []),
  ];
  return `${steps === 0 ? 'No weight of the base encoder was changed. ' : ''}Behind the pooling comes a Dense module that was fitted
on the vectors of ${whole(texts)} texts (${code(adaptation)}, seed ${recipe.seed}): ${parts.join(', and ')}.`;
}

function recipeTable({ recipe }: RunStart): string {
  return table(
    ['recipe', ''],
    Object.entries(recipe).map(([key, value]) => [
      code(key),
      Array.isArray(value) ? value.join(', ') : String(value),
    ]),
  );
}

/** What training does, a sentence or two with its source. */
function methodOf({ recipe, data, teacher, student }: RunStart): string {
  if (recipe.objective === 'distill')
    return `Training gives a text the vector that ${code(teacher!.name)} gives it${contextOf(recipe, data)}: a loss on the cosine of the two${
      recipe.similarityWeight > 0
        ? ', on the\nsimilarities in a batch (Tung and Mori 2019, [arXiv 1907.09682](https://arxiv.org/abs/1907.09682))'
        : ''
    }${
      recipe.mu > 0 || recipe.nu > 0
        ? ", and VICReg's\nvariance and covariance (Bardes, Ponce and LeCun 2022, [arXiv 2105.04906](https://arxiv.org/abs/2105.04906))"
        : ''
    }.${
      student?.init === 'source'
        ? `
It begins as layers ${student.take.join(' and ')} of it (counted from 0), each cut down to the neurons that do most.`
        : ''
    }`;
  if (recipe.objective === 'mlm')
    return `Training has it guess masked words (Devlin et al. 2018, [arXiv 1810.04805](https://arxiv.org/abs/1810.04805)).`;
  return recipe.objective === 'tsdae'
    ? `Training has a decoder write each text anew from the vector of what is left of it when words are taken away (TSDAE,
Wang, Reimers and Gurevych 2021, [arXiv 2104.06979](https://arxiv.org/abs/2104.06979)).`
    : comparisonOf(recipe, data) + headsOf(recipe) + keptOf(recipe, data, teacher);
}

/** "a", "a and b", "a, b and c" */
function inSeries(parts: readonly string[]): string {
  const last = parts[parts.length - 1];
  return parts.length === 1 ? last : `${parts.slice(0, -1).join(', ')} and ${last}`;
}

/** What a teacher knows of a text beside its words. */
function contextOf(
  { context, whitening, neighbourTexts, neighbours, pairWeight }: Recipe,
  data: RunStart['data'],
): string {
  const hasPairs = data.some(({ kind }) => kind === 'pairs');
  const known = [
    ...(context === '' ? [] : [`with ${code(context)} behind it and without`]),
    ...(whitening > 0
      ? ['whitened (Su et al. 2021, [arXiv 2103.15316](https://arxiv.org/abs/2103.15316))']
      : []),
    ...(neighbourTexts > 0 ? [`with each of its ${neighbourTexts} nearest neighbours behind it`] : []),
    ...(neighbours > 0 ? [`drawn to its ${neighbours} nearest neighbours`] : []),
    ...(hasPairs && pairWeight > 0 ? ['drawn to the texts that pairs say mean the same'] : []),
  ];
  return known.length === 0 ? '' : ` when all that texts share is taken away, ${inSeries(known)}`;
}

/** Of an objective that compares two views. */
function comparisonOf({ objective, pairShare, hardNegatives }: Recipe, data: RunStart['data']): string {
  const kinds = data.map(({ kind }) => kind);
  const compared = [
    ...(kinds.includes('texts') && pairShare < 1 ? ['two views of each text'] : []),
    ...(kinds.includes('pairs') ? ['the two texts of each pair'] : []),
  ].join(' and ');
  const near = hardNegatives > 0 ? `, and from up to ${hardNegatives} near texts for each` : '';
  switch (objective) {
    case 'barlow-twins':
      return `Training makes ${compared} agree in each dimension, and no two dimensions with each other (Barlow Twins, Zbontar et
al. 2021, [arXiv 2103.03230](https://arxiv.org/abs/2103.03230)).`;
    case 'simcse':
      return `Training tells each text, encoded twice with different dropout, from the others of its batch (SimCSE, Gao, Yao and
Chen 2021, [arXiv 2104.08821](https://arxiv.org/abs/2104.08821)).`;
    case 'infonce':
      return `Training tells ${compared} from the others of the batch${near} (InfoNCE, van den Oord, Li and Vinyals 2018,
[arXiv 1807.03748](https://arxiv.org/abs/1807.03748)).`;
    default:
      return `Training makes ${compared} predict each other under the VICReg loss
(Bardes, Ponce and LeCun 2022, [arXiv 2105.04906](https://arxiv.org/abs/2105.04906)).`;
  }
}

/** What is asked beside it. */
function headsOf(recipe: Recipe): string {
  const { mlmWeight, rtdWeight, reconstructionWeight, editWeight } = recipe;
  const asked = [
    ...(mlmWeight > 0 ? ['which words are masked'] : []),
    ...(rtdWeight > 0 ? ['which tokens were replaced'] : []),
    ...(reconstructionWeight > 0 ? ['the whole text, from its vector'] : []),
    ...(editWeight > 0 ? ['what was done to a view, from the embeddings'] : []),
  ];
  return asked.length === 0 ? '' : ` Beside that it has to tell ${asked.join(', ')}.`;
}

/** What holds the vectors where they were. */
function keptOf(recipe: Recipe, data: RunStart['data'], teacher: RunStart['teacher']): string {
  return recipe.keepWeight > 0
    ? ` Each text's vector is held near to the one that ${code(teacher!.name)} gives it${contextOf(recipe, data)}.`
    : '';
}

function resultsOf(run: Run): string {
  const compared = comparisons(run);
  if (compared.length === 0)
    return 'Not evaluated: no evaluation was given, so whether training helped is not known.';
  const tables = compared.map(({ spec, counts, columns }) => {
    const described = Object.entries(counts).map(([name, count]) => `${whole(count)} ${name}`);
    const rows = Object.keys(columns[0].result.metrics).map((metric) => [
      metric,
      ...columns.map(({ result }) => percent(result.metrics[metric])),
    ]);
    return `${code(spec)} (${described.join(', ')}), in percent:\n\n${table(['', ...columns.map(({ label }) => label)], rows)}`;
  });
  return `${line(`${verdict(run).text} ${exportedStep(run)}`)}

${tables.join('\n\n')}`;
}

function table(head: string[], rows: string[][]): string {
  const row = (cells: string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
}

/** Files and evaluations by the last part of their path: the rest is the trainer's own, and a model gets around. */
export function withoutFolders(run: Run): Run {
  return {
    ...run,
    start: {
      ...run.start,
      data: run.start.data.map((data) => ({ ...data, file: path.basename(data.file) })),
    },
    evaluations: run.evaluations.map((entry) => ({ ...entry, results: entry.results.map(withoutFolder) })),
    adapted: run.adapted && {
      ...run.adapted,
      results: run.adapted.results.map(withoutFolder),
      comparisons: run.adapted.comparisons.map(withoutFolder),
    },
    end: run.end && {
      ...run.end,
      differences: run.end.differences?.map(withoutFolder),
    },
  };
}

function withoutFolder<T extends { spec: string }>(result: T): T {
  const [kind, ...where] = result.spec.split(':');
  return { ...result, spec: `${kind}:${path.basename(where.join(':'))}` };
}

/** Prose in one line: nothing in it is Markdown or HTML. */
function line(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\\`*<[]/g, '\\$&');
}

function code(text: string): string {
  return `\`${text.replace(/\s+/g, ' ').replaceAll('`', "'")}\``;
}

function whole(count: number): string {
  return count.toLocaleString('en');
}
