import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';

import { UserError } from '../base/errors.js';
import { fileError, sha256File } from '../base/files.js';
import { BrokenLines } from './broken-lines.js';
import { jsonRows, tableRows, textLines } from './rows.js';
import type { DataFile } from './run-log.js';
import type { Source } from './types.js';

/** What two views are made of: a text seen twice, or a pair that means the same. */
export interface Example extends Source {
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

/** The column of a table that is a text's body: the first of these that is there. Its title is in `title`. */
const BODY_COLUMNS = ['body', 'text'];

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
 * A few broken lines, with another number of columns or of another form, are left out with a note, see BrokenLines;
 * a header without the column is not.
 *
 * @param options.sides keep a text's title and body as well, for views of them: {"title", "text"} of a .jsonl, the
 *   columns title and body or text of a table
 * @throws UserError `not-found`; `malformed` with file and line; `empty` when there is nothing to train on
 */
export async function readTrainingData(options: {
  data: string[];
  pairs: string[];
  field?: string;
  sides?: boolean;
}): Promise<TrainingData> {
  const result: TrainingData = { examples: [], files: [], notes: [] };
  const seen = new Set<string>();
  let broken: UserError | undefined;
  const add = async (
    file: string,
    kind: DataFile['kind'],
    rowsOf: (brokenLines: BrokenLines) => AsyncIterable<Row>,
  ): Promise<void> => {
    const brokenLines = new BrokenLines();
    await addFile(result, seen, file, kind, rowsOf(brokenLines), brokenLines);
    broken ??= brokenLines.first?.error;
  };
  for (const file of options.data)
    await add(file, 'texts', (brokenLines) => {
      const note = (text: string): void => void result.notes.push(text);
      return textsOf(file, options, note, brokenLines);
    });
  for (const file of options.pairs) await add(file, 'pairs', (brokenLines) => pairsOf(file, brokenLines));

  const { examples, files } = result;
  if (examples.length < FEWEST) {
    if (broken) throw broken;
    throw new UserError(
      'empty',
      `expected at least ${FEWEST} different texts or pairs to train on, found ${examples.length} in ${files.map(({ file }) => file).join(', ') || 'no file'}`,
    );
  }
  return result;
}

/** A text, with its sides where they are kept, or a pair. */
type Row = Source & { second?: string };

async function addFile(
  { examples, files, notes }: TrainingData,
  seen: Set<string>,
  file: string,
  kind: DataFile['kind'],
  rows: AsyncIterable<Row>,
  broken: BrokenLines,
): Promise<void> {
  await checkIsFile(file);
  const lines = createHash('sha256');
  let count = 0;
  let empty = 0;
  let repeated = 0;
  for await (const row of rows) {
    // The standard input can't be read again for its digest; its texts are its lines.
    if (file === '-') lines.update(`${row.first}\n`);
    const first = row.first.trim();
    const second = row.second?.trim() ?? first;
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
    const [title, body] = [row.title?.trim(), row.body?.trim()];
    examples.push({
      ...{ first, second, kind: kind === 'texts' ? 'text' : 'pair' },
      ...(title && { title }),
      ...(body && { body }),
    });
    count++;
  }
  const note = broken.conclude(file, count + empty + repeated);
  if (count + repeated === 0)
    throw new UserError('empty', `${file}: expected ${kind} to train on, found none`);
  if (note) notes.push(note);
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
  { field, sides = false }: { field?: string; sides?: boolean },
  note: (text: string) => void,
  broken: BrokenLines,
): AsyncGenerator<Row> {
  const form = formOf(file);
  if (form === 'txt') {
    for await (const { text } of textLines(file, broken)) yield { first: text };
  } else if (form === 'jsonl') {
    for await (const { value, where, line } of jsonRows(file, broken)) {
      const first = broken.attempt(line, () => textOfObject(value, field, where));
      if (first !== undefined) yield { first, ...(sides && sidesOfObject(value)) };
    }
  } else if (form === 'tsv' || form === 'csv') {
    let header: string[] | undefined;
    let column = 0;
    let columns: { title: number; body: number } | undefined;
    for await (const { fields, where, line } of tableRows(file, form, broken)) {
      if (!header) {
        // What stands in front of the first row that can be read may have been the header.
        if (broken.first && broken.first.line < line) throw broken.first.error;
        header = fields.map(columnName);
        column = textColumn(header, field, where);
        columns = sides ? sideColumns(header) : undefined;
        const others = TEXT_COLUMNS.filter((name) => header?.includes(name) && name !== header[column]);
        if (field === undefined && others.length > 0)
          note(
            `${file}: the texts are its column ${header[column]}; --field can name ${others.join(' or ')}`,
          );
      } else if (broken.attempt(line, () => checkCount(fields, header!.length, where)))
        yield {
          first: fields[column],
          ...(columns && { title: fields[columns.title], body: fields[columns.body] }),
        };
    }
  } else throw unknownEnding(file, TEXT_ENDINGS);
}

async function* pairsOf(file: string, broken: BrokenLines): AsyncGenerator<Row> {
  const form = formOf(file);
  if (form === 'jsonl') {
    for await (const { value, where, line } of jsonRows(file, broken)) {
      const pair = broken.attempt(line, () => pairOfJson(value, where));
      if (pair) yield { first: pair[0], second: pair[1] };
    }
  } else if (form === 'tsv' || form === 'csv') {
    let isFirst = true;
    for await (const { fields, where, line } of tableRows(file, form, broken)) {
      if (!broken.attempt(line, () => checkCount(fields, 2, where))) continue;
      const [first, second] = fields.map(columnName);
      const isHeader = isFirst && PAIR_COLUMNS.some(([one, two]) => one === first && two === second);
      isFirst = false;
      if (!isHeader) yield { first: fields[0], second: fields[1] };
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

function checkCount(fields: string[], expected: number, where: string): true {
  if (fields.length === expected) return true;
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

/** Where title and body stand in a row; -1 for one that has no column. */
function sideColumns(header: string[]): { title: number; body: number } {
  const body = BODY_COLUMNS.find((name) => header.includes(name));
  return { title: header.indexOf('title'), body: body === undefined ? -1 : header.indexOf(body) };
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

function sidesOfObject(value: unknown): { title?: string; body?: string } {
  const { title, text } = recordOf(value);
  return {
    title: typeof title === 'string' ? title : undefined,
    body: typeof text === 'string' ? text : undefined,
  };
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
