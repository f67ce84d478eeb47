import { csvRecords } from '../base/csv.js';
import { messageOf, UserError } from '../base/errors.js';
import { readLines, type Line } from '../base/lines.js';
import type { BrokenLines } from './broken-lines.js';

/** Where a row stands, as file:line and as the number; of a record of several lines the last. */
interface Place {
  where: string;
  line: number;
}

/** The lines that are text, the others counted. */
export function textLines(file: string, broken: BrokenLines): AsyncGenerator<Line> {
  return readLines(file, (error, number) => broken.add(error, number));
}

/** The rows of a table; empty lines are none. */
export async function* tableRows(
  file: string,
  form: 'tsv' | 'csv',
  broken: BrokenLines,
): AsyncGenerator<Place & { fields: string[] }> {
  if (form === 'tsv') {
    for await (const { text, number } of textLines(file, broken))
      if (text.trim() !== '') yield { fields: text.split('\t'), where: `${file}:${number}`, line: number };
  } else yield* csvRows(file, broken);
}

async function* csvRows(file: string, broken: BrokenLines): AsyncGenerator<Place & { fields: string[] }> {
  let last = 0;
  async function* lines(): AsyncGenerator<string> {
    for await (const { text, number } of textLines(file, broken)) {
      // An empty line in the place of a broken one: the parser counts them.
      yield '\n'.repeat(number - last - 1) + `${text}\n`;
      last = number;
    }
  }
  /** Where records were skipped that no row has come after yet. */
  const skipped: { line: number; error: UserError }[] = [];
  const records = csvRecords(lines(), {
    skipRecordsWithError: true,
    onSkip(error) {
      const message = `${file}: expected CSV: ${messageOf(error)}`;
      skipped.push({
        line: error?.lines as number,
        error: new UserError('malformed', message, { cause: error }),
      });
      return undefined;
    },
  });
  let end = 0;
  // A quote that is not closed takes the lines behind it along, up to the next row that can be read.
  const countSkipped = (next: number, start: number): void => {
    const until = skipped.findIndex(({ line }) => line > next);
    const [first] = skipped.splice(0, until < 0 ? skipped.length : until);
    if (first) broken.add(first.error, first.line, Math.max(1, start - end - 1));
  };
  for await (const { record, info } of records) {
    const breaks = record.join('').split('\n').length - 1;
    countSkipped(info.lines, info.lines - breaks);
    end = info.lines;
    yield { fields: record, where: `${file}:${info.lines}`, line: info.lines };
  }
  countSkipped(Infinity, last + 1);
}

/** The values of a file with JSON a line; empty lines are none. */
export async function* jsonRows(
  file: string,
  broken: BrokenLines,
): AsyncGenerator<Place & { value: unknown }> {
  for await (const { text, number } of textLines(file, broken)) {
    if (text.trim() === '') continue;
    const where = `${file}:${number}`;
    const parsed = broken.attempt(number, () => ({ value: parseJson(text, where) }));
    if (parsed) yield { ...parsed, where, line: number };
  }
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError('malformed', `${where}: expected JSON a line: ${messageOf(error)}`, { cause: error });
  }
}
