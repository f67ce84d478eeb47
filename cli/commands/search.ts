import { Command, Option } from 'commander';

import { messageOf, UserError } from '../../base/errors.js';
import type { components } from '../../server/http/openapi.js';
import { integerFrom, numberFrom } from '../options.js';

type SearchResponse = components['schemas']['SearchResponse'];

interface Options {
  url: string;
  k: number;
  mode: string;
  lexicalWeight?: number;
  filter?: string;
  apiKey?: string;
  json?: boolean;
}

export function searchCommand(): Command {
  return new Command('search')
    .description('Search the collection of a running server.')
    .argument('<text>', 'what to search for')
    .addOption(
      new Option('--url <url>', 'where the server listens')
        .default('http://127.0.0.1:3000')
        .env('SENTENCE_JEPA_URL'),
    )
    .addOption(new Option('-k <n>', 'how many hits').default(10).argParser(integerFrom(1, 1000)))
    .addOption(
      new Option('--mode <mode>', 'by meaning, by words or both')
        .choices(['dense', 'lexical', 'hybrid'])
        .default('dense'),
    )
    .addOption(
      new Option(
        '--lexical-weight <n>',
        "what words weigh in hybrid, 0 to 1 (default: the server's)",
      ).argParser(numberFrom(0, 1)),
    )
    .option('--filter <json>', 'only documents whose metadata fit, such as \'{"answered": true}\'')
    .addOption(
      new Option('--api-key <key>', 'the key, when the server asks for one').env('SENTENCE_JEPA_API_KEY'),
    )
    .option('--json', "print the server's answer as JSON")
    .addHelpText(
      'after',
      `
Examples:
  sentence-jepa search "usb stick is not recognised" -k 5
  sentence-jepa search "wifi slow" --mode hybrid --filter '{"answered": true}' --json`,
    )
    .action(async (text: string, options: Options) => {
      const answer = await search(text, options);
      if (options.json) console.log(JSON.stringify(answer));
      else for (const { id, text, score } of answer.hits) console.log(`${score.toFixed(4)}  ${id}  ${text}`);
      if (!options.json && answer.hits.length === 0) console.error('no document was found');
    });
}

/** @throws UserError with the server's own message when it refuses */
async function search(query: string, options: Options): Promise<SearchResponse> {
  const { url, k, mode, lexicalWeight, apiKey } = options;
  let filter: unknown;
  try {
    filter = options.filter === undefined ? undefined : JSON.parse(options.filter);
  } catch (error) {
    throw new UserError('usage', `--filter: expected JSON: ${messageOf(error)}`);
  }
  let response: Response;
  try {
    response = await fetch(new URL('/search', url), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...(apiKey && { Authorization: `Bearer ${apiKey}` }) },
      body: JSON.stringify({ query, k, mode, lexical_weight: lexicalWeight, filter }),
    });
  } catch (error) {
    const cause = error instanceof Error && error.cause ? error.cause : error;
    throw new UserError(
      'unavailable',
      `no server answers at ${url} (${messageOf(cause)}); start one with npm start, or name its address with --url`,
    );
  }
  const answer = (await response.json().catch(() => ({}))) as Partial<SearchResponse> & { error?: string };
  if (!response.ok || !answer.hits)
    throw new UserError(
      'invalid',
      `${url} answers ${response.status}: ${answer.error ?? 'not a search answer'}`,
    );
  return answer as SearchResponse;
}
