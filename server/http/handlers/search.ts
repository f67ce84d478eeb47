import type { Filter, SearchMode } from '../../search/collection.js';
import { parseJson } from '../body.js';
import { checkModel, checkText, type Call, type Handlers } from '../handler.js';
import type { components } from '../openapi.js';
import { checkSchema } from '../spec.js';

const checkFilter = checkSchema('Filter', 'filter');

async function search(
  {
    services: { collection, inference },
    limits,
    signal,
  }: Pick<Call<'search'>, 'services' | 'limits' | 'signal'>,
  body: components['schemas']['SearchRequest'],
): Promise<components['schemas']['SearchResponse']> {
  checkModel(body.model, inference.name);
  checkText(body.query, 'query', limits);
  const { query, k, mode, lexical_weight: lexicalWeight, exclude } = body;
  const filter = body.filter as Filter;
  const hits = await collection.search({ query, k, mode, lexicalWeight, filter, exclude, signal });
  return { model: inference.name, mode, hits };
}

/** @throws HttpError `malformed`, `invalid` */
function filterOf(text: string | undefined): Filter | undefined {
  if (text === undefined) return undefined;
  const filter = parseJson(Buffer.from(text), 'filter');
  checkFilter(filter);
  return filter as Filter;
}

export const searchHandlers: Handlers<'search' | 'searchByUrl' | 'duplicatesOf' | 'duplicatePairs'> = {
  search: (call) => search(call, call.body),

  searchByUrl(call) {
    const { q, k, mode, lexical_weight, exclude, model } = call.query;
    const filter = filterOf(call.query.filter);
    return search(call, {
      query: q,
      k: k as number,
      mode: mode as SearchMode,
      lexical_weight,
      filter,
      exclude,
      model,
    });
  },

  async duplicatesOf({ body, services: { collection }, limits, signal }) {
    checkText(body.text, 'text', limits);
    const { threshold, k } = body;
    const hits = await collection.duplicatesOf(body.text, {
      threshold,
      k,
      filter: body.filter as Filter,
      signal,
    });
    return { threshold, hits };
  },

  async duplicatePairs({ query, services: { collection }, signal }) {
    const threshold = query.threshold as number;
    const pairs = await collection.duplicatePairs({ threshold, limit: query.limit as number, signal });
    return { threshold, pairs };
  },
};
