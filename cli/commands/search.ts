import { Command, Option } from 'commander';

import { messageOf, UserError } from '../../base/errors.js';
import type { components } from '../../server/http/openapi.js';
import { integerFrom, numberFrom } from '../options.js';
import { callServer, keyOption, urlOption } from '../server-client.js';

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
    .addOption(urlOption())
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
    .addOption(keyOption())
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
  const { k, mode, lexicalWeight } = options;
  let filter: unknown;
  try {
    filter = options.filter === undefined ? undefined : JSON.parse(options.filter);
  } catch (error) {
    throw new UserError('usage', `--filter: expected JSON: ${messageOf(error)}`);
  }
  const body = { query, k, mode, lexical_weight: lexicalWeight, filter };
  const response = await callServer(options, 'POST', '/search', body);
  const answer = (await response.json().catch(() => ({}))) as Partial<SearchResponse>;
  if (!answer.hits) throw new UserError('invalid', `${options.url} answers, but not as this server does`);
  return answer as SearchResponse;
}
