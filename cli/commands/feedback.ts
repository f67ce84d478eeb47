import path from 'node:path';

import { Command } from 'commander';
import { CsvError } from 'csv-parse';

import { csvRecords } from '../../base/csv.js';
import { UserError } from '../../base/errors.js';
import { readLines } from '../../base/lines.js';
import type { components } from '../../server/http/openapi.js';
import { callServer, serverCommands, type ServerOptions } from '../server-client.js';

type Feedback = components['schemas']['Feedback'];
type Stored = components['schemas']['FeedbackStored'];
type Page = components['schemas']['DocumentPage'];

export function feedbackCommand(): Command {
  const command = new Command('feedback').description(
    'Tell a running server which documents queries have found: it trains and judges by them.',
  );
  const sub = serverCommands(command);

  sub('add', 'One query and document.')
    .argument('<query>', 'what was asked')
    .argument('<id>', "the document's id")
    .option('--not', 'it is not what was asked for')
    .action(async (query: string, id: string, options: ServerOptions & { not?: boolean }) => {
      await callServer(options, 'POST', '/feedback', { query, id, relevant: !options.not });
    });

  sub('import', 'A file of duplicate links or clicks.')
    .argument(
      '<file>',
      '.jsonl of {"query", "id", "relevant"?}, or .tsv, .csv: query, document, relevant? (.gz too)',
    )
    .option('--by-text', 'the second column is the text of a document, not its id')
    .action(async (file: string, options: ServerOptions & { byText?: boolean }) => {
      const idOf = options.byText ? await idsByText(options) : undefined;
      let unknown = 0;
      async function* known(): AsyncGenerator<Feedback> {
        for await (const { query, id: named, relevant } of feedbackOf(file)) {
          const id = idOf ? idOf.get(named) : named;
          if (id === undefined) unknown++;
          else yield { query, id, relevant };
        }
      }
      const answer = await callServer(options, 'POST', '/feedback', ndjsonOf(known()));
      const counts = (await answer.json()) as Stored;
      const missing = unknown + counts.unknown;
      console.log(
        `${counts.stored} stored${missing > 0 ? `, ${missing} about documents that are not in the collection left out` : ''}`,
      );
    });

  sub('count', 'How much there is.').action(async (options: ServerOptions) => {
    const counts = (await (
      await callServer(options, 'GET', '/feedback')
    ).json()) as components['schemas']['FeedbackCounts'];
    const { total, relevant, queries } = counts;
    console.log(
      `${total} (${relevant} relevant); queries to train on ${queries.train}, to choose by ${queries.dev}, to judge by ${queries.test}`,
    );
  });

  return command.addHelpText(
    'after',
    `
A fifth of the queries, by a hash of their words, is never trained on: it judges whether a new model is better.

Examples:
  sentence-jepa feedback add "usb stick is not recognised" q17
  sentence-jepa feedback import duplicate-links.tsv
  sentence-jepa feedback import pairs-of-titles.tsv --by-text`,
  );
}

/** @throws UserError `malformed` with file and line */
async function* feedbackOf(file: string): AsyncGenerator<Feedback> {
  const kind = path.extname(file.replace(/\.gz$/, ''));
  if (kind !== '.jsonl' && kind !== '.tsv' && kind !== '.csv')
    throw new UserError('usage', `${file}: expected a .jsonl, .tsv or .csv file`);
  const refuse = (number: number, found: string): UserError =>
    new UserError(
      'malformed',
      `${file}:${number}: expected ${kind === '.jsonl' ? '{"query", "id", "relevant"?}' : 'query, document and, if it is not relevant, false'}, found ${found.slice(0, 80)}`,
    );
  if (kind === '.jsonl') {
    for await (const { text, number } of readLines(file)) {
      if (text.trim() === '') continue;
      let value: Partial<Feedback> | null;
      try {
        value = JSON.parse(text) as Partial<Feedback> | null;
      } catch {
        throw refuse(number, text);
      }
      if (typeof value?.query !== 'string' || typeof value.id !== 'string') throw refuse(number, text);
      yield { query: value.query, id: value.id, relevant: value.relevant ?? true };
    }
    return;
  }
  async function* lines(): AsyncGenerator<string> {
    for await (const { text } of readLines(file)) yield text + '\n';
  }
  // Titles have quotes of their own.
  const records = csvRecords(lines(), kind === '.tsv' ? { delimiter: '\t', quote: false } : {});
  try {
    for await (const { record, info } of records) {
      const [query, id, relevant = 'true'] = record;
      if (info.records === 1 && query === 'query') continue;
      if (!query?.trim() || !id || !['true', 'false', '1', '0'].includes(relevant))
        throw refuse(info.lines, [query, id, relevant].join(' '));
      yield { query, id, relevant: relevant === 'true' || relevant === '1' };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new UserError(
      'malformed',
      `${file}:${error.lines}: expected CSV, in which a text with quotes is "like ""this""": ${error.message}`,
      {
        cause: error,
      },
    );
  }
}

/** All documents' ids by their texts. */
async function idsByText(options: ServerOptions): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  for (let after = ''; ;) {
    const query = `limit=1000${after && `&after=${encodeURIComponent(after)}`}`;
    const page = (await (await callServer(options, 'GET', `/documents?${query}`)).json()) as Page;
    for (const { id, text } of page.documents) ids.set(text, id);
    if (page.next === null || page.next === undefined) return ids;
    after = page.next;
  }
}

function ndjsonOf(values: AsyncGenerator<unknown>): ReadableStream {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await values.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(JSON.stringify(value) + '\n'));
      } catch (error) {
        controller.error(error);
      }
    },
  });
}
