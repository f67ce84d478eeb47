import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { pipeline, Readable } from 'node:stream';

import { parse } from 'csv-parse';

import { messageOf, UserError } from '../base/errors.js';
import { fileError, sha256File } from '../base/files.js';
import { readLines } from '../base/lines.js';
import type { DataFile } from './run-log.js';

/** What two views are made of: a text seen twice, or a pair that means the same. */
export interface Example {
  first: string;
  /** Of a text: the text again. */
  second: string;
  kind: 'text' | 'pair';
}

export interface TrainingData {
  /** In the order of the files: those of texts, then those of pairs. */
  examples: Example[];
  files: DataFile[];
  /** What was left out or chosen, a sentence each. */
  notes: string[];
}

/** The column that is trained on when no --field names one: the first of these that is there. */
const TEXT_COLUMNS = ['title', 'text', 'sentence', 'question'];

/** How the two columns of pairs are named: in a header row, or in the objects of a .jsonl. */
const PAIR_COLUMNS: readonly (readonly [string, string])[] = [
  ['first', 'second'],
  ['anchor', 'positive'],
  ['query', 'positive'],
  ['sentence1', 'sentence2'],
  ['sentence_1', 'sentence_2'],
  ['sentence_a', 'sentence_b'],
  ['title1', 'title2'],
  ['text1', 'text2'],
  ['question1', 'question2'],
];

const TEXT_ENDINGS = '.txt, .tsv, .csv, .jsonl or .ndjson, each also with .gz, or - for the standard input';
const PAIR_ENDINGS = '.tsv, .csv, .jsonl or .ndjson, each also with .gz';

/** Fewer than two and there is nothing to tell a text from. */
const FEWEST = 2;

/**
 * Reads what an encoder is trained on. Texts are trimmed; empty ones and exact repeats are left out.
 *
 * - `data`, a text each: .txt has a text a line, and so has `-`, the standard input; .tsv and .csv have a header
 *   and the text in the column `field`; .jsonl has {"title"?, "text"} joined by a space, as BEIR's corpora, or
 *   the text in `field`.
 * - `pairs`: .tsv and .csv have two columns, with or without a header; .jsonl has [text, text], or objects whose
 *   two texts are named as in PAIR_COLUMNS.
 *
 * A .tsv has no quoting: it is split at every TAB.
 *
 * @throws UserError `not-found`; `malformed` with file and line; `empty` when there is nothing to train on
 */
export async function readTrainingData(options: {
  data: string[];
  pairs: string[];
  field?: string;
}): Promise<TrainingData> {
  const result: TrainingData = { examples: [], files: [], notes: [] };
  const seen = new Set<string>();
  for (const file of options.data) {
    const note = (text: string): void => void result.notes.push(text);
    await addFile(result, seen, file, 'texts', textsOf(file, options.field, note));
  }
  for (const file of options.pairs) await addFile(result, seen, file, 'pairs', pairsOf(file));

  const { examples, files } = result;
  if (examples.length < FEWEST)
    throw new UserError(
      'empty',
      `expected at least ${FEWEST} different texts or pairs to train on, found ${examples.length} in ${files.map(({ file }) => file).join(', ') || 'no file'}`,
    );
  return result;
}

/** Texts as [text], pairs as [text, text]. */
type Texts = [string] | [string, string];

async function addFile(
  { examples, files, notes }: TrainingData,
  seen: Set<string>,
  file: string,
  kind: DataFile['kind'],
  found: AsyncIterable<Texts>,
): Promise<void> {
  await checkIsFile(file);
  const lines = createHash('sha256');
  let count = 0;
  let empty = 0;
  let repeated = 0;
  for await (const texts of found) {
    // The standard input can't be read again for its digest; its texts are its lines.
    if (file === '-') lines.update(`${texts[0]}\n`);
    const [first, second = first] = texts.map((text) => text.trim());
    if (first === '' || second === '') {
      empty++;
      continue;
    }
    const key = kind === 'texts' ? first : `${first}\0${second}`;
    if (seen.has(key)) {
      repeated++;
      continue;
    }
    seen.add(key);
    examples.push({ first, second, kind: kind === 'texts' ? 'text' : 'pair' });
    count++;
  }
  if (count + repeated === 0)
    throw new UserError('empty', `${file}: expected ${kind} to train on, found none`);
  if (empty + repeated > 0) {
    const counts = [
      empty > 0 ? `${empty.toLocaleString('en')} empty` : '',
      repeated > 0 ? `${repeated.toLocaleString('en')} repeated` : '',
    ];
    const noun = empty + repeated === 1 ? kind.slice(0, -1) : kind;
    notes.push(`${file}: ${counts.filter(Boolean).join(' and ')} ${noun} left out`);
  }
  files.push({ file, kind, count, sha256: file === '-' ? lines.digest('hex') : await sha256File(file) });
}

async function checkIsFile(file: string): Promise<void> {
  if (file === '-') return;
  const found = await stat(file).catch((error: unknown) => {
    throw fileError(error, file, 'read');
  });
  if (found.isDirectory())
    throw new UserError('invalid', `${file}: expected a file, found a folder; name the files in it`);
}

async function* textsOf(
  file: string,
  field: string | undefined,
  note: (text: string) => void,
): AsyncGenerator<[string]> {
  const form = formOf(file);
  if (form === 'txt') {
    for await (const { text } of readLines(file)) yield [text];
  } else if (form === 'jsonl') {
    for await (const { value, where } of jsonLines(file)) yield [textOfObject(value, field, where)];
  } else if (form === 'tsv' || form === 'csv') {
    let header: string[] | undefined;
    let column = 0;
    for await (const { fields, where } of tableRows(file, form)) {
      if (header) {
        checkCount(fields, header.length, where);
        yield [fields[column]];
      } else {
        header = fields.map(columnName);
        column = textColumn(header, field, where);
        const others = TEXT_COLUMNS.filter((name) => header?.includes(name) && name !== header[column]);
        if (field === undefined && others.length > 0)
          note(
            `${file}: the texts are its column ${header[column]}; --field can name ${others.join(' or ')}`,
          );
      }
    }
  } else throw unknownEnding(file, TEXT_ENDINGS);
}

async function* pairsOf(file: string): AsyncGenerator<Texts> {
  const form = formOf(file);
  if (form === 'jsonl') {
    for await (const { value, where } of jsonLines(file)) yield pairOfJson(value, where);
  } else if (form === 'tsv' || form === 'csv') {
    let isFirst = true;
    for await (const { fields, where } of tableRows(file, form)) {
      checkCount(fields, 2, where);
      const [first, second] = fields.map(columnName);
      const isHeader = isFirst && PAIR_COLUMNS.some(([one, two]) => one === first && two === second);
      isFirst = false;
      if (!isHeader) yield [fields[0], fields[1]];
    }
  } else throw unknownEnding(file, PAIR_ENDINGS);
}

function formOf(file: string): 'txt' | 'tsv' | 'csv' | 'jsonl' | undefined {
  if (file === '-') return 'txt';
  const ending = /\.(txt|tsv|csv|jsonl|ndjson)(\.gz)?$/.exec(file)?.[1];
  return ending === 'ndjson' ? 'jsonl' : (ending as 'txt' | 'tsv' | 'csv' | 'jsonl' | undefined);
}

function unknownEnding(file: string, known: string): UserError {
  return new UserError('invalid', `${file}: expected a name that ends in ${known}`);
}

/** `where` is file:line, of a record of several lines the last. */
async function* tableRows(
  file: string,
  form: 'tsv' | 'csv',
): AsyncGenerator<{ fields: string[]; where: string }> {
  if (form === 'tsv') {
    for await (const { text, number } of readLines(file))
      if (text.trim() !== '') yield { fields: text.split('\t'), where: `${file}:${number}` };
    return;
  }
  async function* lines(): AsyncGenerator<string> {
    for await (const { text } of readLines(file)) yield `${text}\n`;
  }
  const parser = parse({ info: true, relaxColumnCount: true, skipEmptyLines: true });
  // The loop below sees every error: pipeline destroys the parser with it.
  const records = pipeline(Readable.from(lines()), parser, () => undefined) as AsyncIterable<{
    record: string[];
    info: { lines: number };
  }>;
  try {
    for await (const { record, info } of records) yield { fields: record, where: `${file}:${info.lines}` };
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError('malformed', `${file}: expected CSV: ${messageOf(error)}`, { cause: error });
  }
}

function checkCount(fields: string[], expected: number, where: string): void {
  if (fields.length !== expected)
    throw new UserError(
      'malformed',
      `${where}: expected ${expected} ${expected === 1 ? 'column' : 'columns'}, found ${fields.length}: ${clip(fields.join(' | '))}`,
    );
}

function columnName(name: string): string {
  return name.trim().toLowerCase();
}

/** The place of the column that is trained on. */
function textColumn(header: string[], field: string | undefined, where: string): number {
  const wanted = field === undefined ? TEXT_COLUMNS : [columnName(field)];
  const name = wanted.find((candidate) => header.includes(candidate));
  if (name !== undefined) return header.indexOf(name);
  throw new UserError(
    'malformed',
    `${where}: expected a header with the column ${wanted.join(' or ')}, found the columns ${clip(header.join(', '))}; --field names the one to train on`,
  );
}

async function* jsonLines(file: string): AsyncGenerator<{ value: unknown; where: string }> {
  for await (const { text, number } of readLines(file)) {
    if (text.trim() === '') continue;
    const where = `${file}:${number}`;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new UserError('malformed', `${where}: expected JSON a line: ${messageOf(error)}`, {
        cause: error,
      });
    }
    yield { value, where };
  }
}

function textOfObject(value: unknown, field: string | undefined, where: string): string {
  const record = recordOf(value);
  if (field !== undefined) {
    if (typeof record[field] === 'string') return record[field];
    throw new UserError(
      'malformed',
      `${where}: expected an object with a text in "${field}", found ${clip(JSON.stringify(value))}`,
    );
  }
  const { title = null, text } = record;
  if (typeof text !== 'string' || (title !== null && typeof title !== 'string'))
    throw new UserError(
      'malformed',
      `${where}: expected {"title"?: string, "text": string}, or --field with another name, found ${clip(JSON.stringify(value))}`,
    );
  return `${title ?? ''} ${text}`;
}

function pairOfJson(value: unknown, where: string): [string, string] {
  const record = recordOf(value);
  const names = PAIR_COLUMNS.find(([first, second]) => first in record && second in record);
  const pair: unknown[] = Array.isArray(value) ? value : (names?.map((name) => record[name]) ?? []);
  if (pair.length === 2 && pair.every((text) => typeof text === 'string')) return [pair[0], pair[1]];
  throw new UserError(
    'malformed',
    `${where}: expected [text, text], or {"first": text, "second": text} or {"anchor": text, "positive": text}, found ${clip(JSON.stringify(value))}`,
  );
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
