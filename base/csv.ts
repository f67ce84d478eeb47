import { pipeline, Readable } from 'node:stream';

import { parse, type Options } from 'csv-parse';

export interface CsvRecord {
  record: string[];
  /** Lines so far, the record's last one included, and records. */
  info: { lines: number; records: number };
}

/**
 * The records of CSV, of any number of fields; empty lines are none. What goes wrong with the lines, and the parser's CsvError,
 * come out of the loop over them.
 */
export function csvRecords(lines: AsyncIterable<string>, options: Options = {}): AsyncIterable<CsvRecord> {
  const parser = parse({ info: true, relaxColumnCount: true, skipEmptyLines: true, ...options });
  // The loop sees every error: pipeline destroys the parser with it.
  return pipeline(Readable.from(lines), parser, () => undefined) as AsyncIterable<CsvRecord>;
}
