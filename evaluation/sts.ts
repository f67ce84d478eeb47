import { parse } from 'csv-parse/sync';

import { messageOf, UserError } from '../base/errors.js';
import { readLines } from '../base/lines.js';
import { pearson, spearman } from './correlation.js';
import { embeddingDiagnostics } from './diagnostics.js';
import type { Evaluation } from './evaluation.js';
import { cosine, encodeUnique } from './vectors.js';

/** Sentence pairs and how alike people found them. */
export interface SentencePairs {
  first: string[];
  second: string[];
  scores: Float64Array;
}

const COLUMNS = {
  first: ['sentence1', 'sentence_1', 'sentence_a'],
  second: ['sentence2', 'sentence_2', 'sentence_b'],
  score: ['score', 'similarity_score', 'relatedness_score', 'label'],
};

/** Semantic textual similarity (Cer et al. 2017): correlation of the cosine with the human score. */
export async function openSts(spec: string, file: string): Promise<Evaluation> {
  const { first, second, scores: gold } = await readSentencePairs(file);
  return {
    spec,
    primary: 'spearman',
    notes: [],
    async run(encoder, options) {
      const started = performance.now();
      const { vectors, rows } = await encodeUnique(encoder, [...first, ...second], options);
      const cosines = Float64Array.from(first, (_, i) => cosine(vectors, rows[i], rows[first.length + i]));
      return {
        spec,
        metrics: { spearman: spearman(cosines, gold), pearson: pearson(cosines, gold) },
        perPair: { metric: 'spearman', cosine: cosines, gold },
        counts: { pairs: first.length, sentences: vectors.n },
        diagnostics: embeddingDiagnostics(vectors),
        seconds: (performance.now() - started) / 1000,
      };
    },
  };
}

/**
 * Reads CSV, or TSV when the name ends in .tsv or .tsv.gz (no quoting there, as GLUE writes it). Without a
 * header: sentence, sentence, score, as stsb-multi-mt has it; with one: columns by name.
 *
 * @throws UserError with file and line for what is missing or not a pair with a score
 */
export async function readSentencePairs(file: string): Promise<SentencePairs> {
  const records = await readRecords(file);
  const header = records[0]?.fields.map((name) => name.trim().toLowerCase()) ?? [];
  const find = (names: string[]): number => header.findIndex((name) => names.includes(name));
  const named = { first: find(COLUMNS.first), second: find(COLUMNS.second), score: find(COLUMNS.score) };
  const hasHeader = Object.values(named).every((column) => column >= 0);
  const at = hasHeader ? named : { first: 0, second: 1, score: 2 };

  const first: string[] = [];
  const second: string[] = [];
  const scores: number[] = [];
  for (const { fields, line } of hasHeader ? records.slice(1) : records) {
    const score = Number(fields[at.score]);
    if (!fields[at.first] || !fields[at.second] || !fields[at.score]?.trim() || !Number.isFinite(score))
      throw new UserError(
        'malformed',
        `${file}:${line}: expected two sentences and a score (sentence1, sentence2, score), found ${fields.length} fields: ${fields.join(' | ').slice(0, 80)}`,
      );
    first.push(fields[at.first]);
    second.push(fields[at.second]);
    scores.push(score);
  }
  if (first.length < 2)
    throw new UserError('empty', `${file}: expected at least two sentence pairs, found ${first.length}`);
  return { first, second, scores: Float64Array.from(scores) };
}

async function readRecords(file: string): Promise<{ fields: string[]; line: number }[]> {
  const lines: string[] = [];
  for await (const { text } of readLines(file)) lines.push(text);
  if (/\.tsv(\.gz)?$/.test(file))
    return lines
      .map((text, i) => ({ fields: text.split('\t'), line: i + 1 }))
      .filter(({ fields }) => fields.length > 1 || fields[0].trim() !== '');
  try {
    const parsed = parse(lines.join('\n'), {
      info: true,
      relaxColumnCount: true,
      skipEmptyLines: true,
    }) as unknown as { record: string[]; info: { lines: number } }[];
    return parsed.map(({ record, info }) => ({ fields: record, line: info.lines }));
  } catch (error) {
    throw new UserError('malformed', `${file}: expected CSV: ${messageOf(error)}`, { cause: error });
  }
}
