import type { Filter, SearchMode, ServedGeneration } from '../../search/collection.js';
import { parseJson } from '../body.js';
import { HttpError } from '../errors.js';
import { checkText, generationFor, type Call, type Handlers } from '../handler.js';
import type { components } from '../openapi.js';
import { checkSchema } from '../spec.js';

const checkFilter = checkSchema('Filter', 'filter', ['filter']);

async function search(
  call: Pick<Call<'search'>, 'services' | 'limits' | 'signal' | 'response'>,
  body: components['schemas']['SearchRequest'],
): Promise<components['schemas']['SearchResponse']> {
  const generation = generationFor(call, body.model);
  checkText(body.query, 'query', call.limits);
  const { query, k, mode, lexical_weight: lexicalWeight, exclude } = body;
  const hits = await call.services.collection.search({
    query,
    k,
    mode,
    lexicalWeight,
    filter: body.filter as Filter,
    exclude,
    generation,
    vector: vectorOf(body, generation),
    signal: call.signal,
  });
  return { model: generation.model, generation: generation.id, mode, hits };
}

/**
 * The query's vector, when it came with the request.
 * @throws HttpError `fingerprint-mismatch`, or `invalid` for one that can't be this model's
 */
function vectorOf(
  { vector, fingerprint }: components['schemas']['SearchRequest'],
  { model, inference }: ServedGeneration,
): Float32Array | undefined {
  if (vector === undefined) return undefined;
  if (fingerprint === undefined)
    throw new HttpError(
      'invalid',
      'fingerprint: expected that of the model that made the vector, came nothing',
      {
        param: 'fingerprint',
      },
    );
  if (fingerprint !== inference.fingerprint)
    throw new HttpError(
      'fingerprint-mismatch',
      `fingerprint: expected ${inference.fingerprint}, that of ${model}, came ${JSON.stringify(fingerprint)}; vectors of two models can't be compared`,
      { param: 'fingerprint' },
    );
  const floats = Float32Array.from(vector);
  const squares = floats.reduce((sum, x) => sum + x * x, 0);
  if (floats.length !== inference.dimensions || !(squares > 0 && squares < Infinity))
    throw new HttpError(
      'invalid',
      `vector: expected ${inference.dimensions} finite numbers that are not all 0, came ${vector.length}${floats.length === inference.dimensions ? ' that have no direction' : ''}`,
      { param: 'vector' },
    );
  return floats;
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

  async duplicatesOf(call) {
    const { body, services, limits, signal } = call;
    const generation = generationFor(call, body.model);
    checkText(body.text, 'text', limits);
    const { threshold, k } = body;
    const hits = await services.collection.duplicatesOf(body.text, {
      threshold,
      k,
      filter: body.filter as Filter,
      generation,
      signal,
    });
    return { model: generation.model, generation: generation.id, threshold, hits };
  },

  async duplicatePairs(call) {
    const { query, services, signal } = call;
    generationFor(call);
    const threshold = query.threshold as number;
    const pairs = await services.collection.duplicatePairs({
      threshold,
      limit: query.limit as number,
      signal,
    });
    return { threshold, pairs };
  },
};
