import { Command, Option } from 'commander';

import { UserError } from '../../base/errors.js';
import type { Precision } from '../../encoder/graph-file.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { DEFAULT_MODEL } from '../../encoder/resolve.js';
import { scoreBm25Column } from '../../evaluation/askubuntu.js';
import { bootstrapDefaults, compareScores } from '../../evaluation/bootstrap.js';
import type { Evaluation } from '../../evaluation/evaluation.js';
import { openEvaluation } from '../../evaluation/open-evaluation.js';
import { evaluateHybrid } from '../../server/search/evaluate-hybrid.js';
import { jsonReport, textReport, type Judged, type Report } from '../evaluation-report.js';
import { hybridJson, hybridText, type HybridReport } from '../hybrid-report.js';
import { progressBar } from '../progress.js';

interface Options {
  model?: string;
  method: 'cosine' | 'bm25';
  beir: string[];
  sts: string[];
  askubuntu: string[];
  split?: string;
  compare: string[];
  precision: Precision;
  hybrid?: boolean;
  json?: boolean;
}

export function evaluateCommand(): Command {
  return new Command('evaluate')
    .description('Measure an encoder: retrieval, sentence similarity, signs of collapse.')
    .option('--model <dir|name>', `a model folder, or the name of a model (default: ${DEFAULT_MODEL})`)
    .option('--beir <dir...>', 'retrieval: a folder with corpus.jsonl, queries.jsonl and qrels/', [])
    .option('--sts <file...>', 'sentence similarity: CSV or TSV of sentence1, sentence2, score', [])
    .option('--askubuntu <dir...>', "duplicate questions: the Ask Ubuntu benchmark's own files", [])
    .option('--split <name>', 'the split of --beir and --askubuntu (default: test)')
    .addOption(
      new Option('--method <method>', "how to score: the encoder's cosine, or Ask Ubuntu's BM25 column")
        .choices(['cosine', 'bm25'])
        .default('cosine'),
    )
    .option(
      '--compare <dir|name...>',
      'a second model, measured on the same data; or both without --model',
      [],
    )
    .addOption(
      new Option('--precision <precision>', "of the model's weights")
        .choices(['fp32', 'int8', 'quantized'])
        .default('fp32'),
    )
    .option(
      '--hybrid',
      'on one --beir: search by meaning, by words, and by both at several weights, as the server does it',
    )
    .option('--json', 'print one JSON object, metrics as fractions')
    .addHelpText(
      'after',
      `
A comparison is a paired bootstrap of the difference of the first metric: ${bootstrapDefaults.resamples.toLocaleString('en')} resamples
of the queries (sentence pairs), seed ${bootstrapDefaults.seed}, 95 % percentile interval. --hybrid compares with search by meaning alone.

Examples:
  sentence-jepa evaluate --beir examples/askubuntu-style
  sentence-jepa evaluate --model ./my-encoder --beir ./dev --sts stsb-en-dev.csv --json
  sentence-jepa evaluate --compare ./my-encoder all-MiniLM-L6-v2 --beir ./dev
  sentence-jepa evaluate --model ./my-encoder --beir ./dev --hybrid
  sentence-jepa evaluate --method bm25 --askubuntu ./askubuntu --split dev`,
    )
    .action(async (options: Options) => {
      if (options.hybrid) {
        const report = await judgeHybrid(options);
        console.log(options.json ? JSON.stringify(hybridJson(report)) : hybridText(report));
        return;
      }
      const report = await evaluate(options);
      console.log(options.json ? JSON.stringify(jsonReport(report)) : textReport(report));
    });
}

async function evaluate(options: Options): Promise<Report> {
  const { split } = options;
  const specs = [
    ...options.beir.map((folder) => `beir:${folder}`),
    ...options.sts.map((file) => `sts:${file}`),
    ...options.askubuntu.map((folder) => `askubuntu:${folder}`),
  ];
  if (specs.length === 0)
    throw new UserError('usage', 'nothing to measure: expected --beir DIR, --sts FILE or --askubuntu DIR');
  const names = modelNames(options);

  // BM25 alone needs no texts, and they may not be there.
  const evaluations: Evaluation[] = [];
  if (names.length > 0) for (const spec of specs) evaluations.push(await openEvaluation(spec, { split }));
  for (const note of evaluations.flatMap(({ notes }) => notes)) console.error(`note: ${note}`);

  const sides: Judged[] = [];
  if (options.method === 'bm25') {
    const results = options.askubuntu.map((folder) => scoreBm25Column(`askubuntu:${folder}`, folder, split));
    sides.push({ name: 'bm25', results: await Promise.all(results) });
  }
  for (const name of names) sides.push(await judge(name, options.precision, evaluations));
  const [judged, compared] = sides;
  return {
    judged,
    compared,
    comparisons: compared && judged.results.map((result, i) => compareScores(result, compared.results[i])),
  };
}

/** @throws UserError `usage` unless there is one model, and one data set with texts to search in */
async function judgeHybrid(options: Options): Promise<HybridReport> {
  const { beir, sts, askubuntu, compare, method, model = DEFAULT_MODEL, precision, split } = options;
  if (beir.length !== 1 || sts.length + askubuntu.length + compare.length > 0 || method !== 'cosine')
    throw new UserError('usage', '--hybrid takes one --beir DIR, and a model only as --model');
  const encoder = await openEncoder(model, { precision, onNote: (line) => console.error(line) });
  const bar = progressBar(`${encoder.name} beir:${beir[0]}`, 'texts');
  try {
    const scores = await evaluateHybrid(beir[0], split, encoder, { onProgress: bar.update });
    for (const note of scores.notes) console.error(`note: ${note}`);
    return { model: encoder.name, fingerprint: encoder.fingerprint, scores };
  } finally {
    bar.stop();
    await encoder.close();
  }
}

/** The one or two models to judge, or none beside BM25; the first one is A. */
function modelNames({ model, method, compare, beir, sts }: Options): string[] {
  if (method === 'bm25') {
    if (model !== undefined || beir.length + sts.length > 0)
      throw new UserError('usage', '--method bm25 takes --askubuntu DIR, and a model only as --compare');
    if (compare.length > 1) throw new UserError('usage', '--method bm25 can be compared with one model only');
    return compare;
  }
  const names = model === undefined ? compare : [model, ...compare];
  if (names.length === 0) return [DEFAULT_MODEL];
  if (model === undefined && names.length === 1)
    throw new UserError(
      'usage',
      'compare with which model? Expected --model DIR|NAME, or two after --compare',
    );
  if (names.length > 2)
    throw new UserError('usage', `a comparison takes two models, found ${names.length}: ${names.join(', ')}`);
  return names;
}

async function judge(name: string, precision: Precision, evaluations: Evaluation[]): Promise<Judged> {
  const encoder = await openEncoder(name, { precision, onNote: (line) => console.error(line) });
  try {
    const judged: Judged = {
      name: encoder.name,
      dimensions: encoder.dimensions,
      maxTokens: encoder.maxTokens,
      fingerprint: encoder.fingerprint,
      results: [],
    };
    for (const evaluation of evaluations) {
      const bar = progressBar(`${encoder.name} ${evaluation.spec}`, 'texts');
      try {
        judged.results.push(await evaluation.run(encoder, { onProgress: bar.update }));
      } finally {
        bar.stop();
      }
    }
    return judged;
  } finally {
    await encoder.close();
  }
}
