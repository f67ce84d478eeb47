import { randomUUID } from 'node:crypto';

import { normalizeRows } from '../../../encoder/pooling.js';
import { mostTokens } from '../../../encoder/tokenizer-files.js';
import type { Inference } from '../../batching/inference.js';
import { HttpError } from '../errors.js';
import { checkText, checkTexts, generationFor, type Call, type Handlers } from '../handler.js';
import type { components } from '../openapi.js';
import { rowOf, rowsToBytes, rowToBase64, rowToJson } from '../vectors.js';

const JSON_TYPE = 'application/json';
const BYTES_TYPE = 'application/octet-stream';

/** A request of more texts than this does not hurry: it must not delay the short ones. */
const INTERACTIVE_TEXTS = 32;

/** What /tokenize answers at most: some 2 MB of JSON, which the event loop writes at one go. */
const MOST_TOKENS = 65_536;

function priorityOf(texts: readonly string[]): 'interactive' | 'bulk' {
  return texts.length > INTERACTIVE_TEXTS ? 'bulk' : 'interactive';
}

/** @throws HttpError `invalid` when more numbers are asked for than a vector has */
function checkDimensions(dimensions: number | undefined, inference: Inference): number {
  if (dimensions !== undefined && dimensions > inference.dimensions)
    throw new HttpError(
      'invalid',
      `dimensions: expected at most ${inference.dimensions}, the model's own, came ${dimensions}`,
      { param: 'dimensions' },
    );
  return dimensions ?? inference.dimensions;
}

/** Rows of n x d, each cut to its first `dimensions` numbers and then, if asked, of length 1 again. */
function* rows(
  vectors: Float32Array,
  inference: Inference,
  dimensions: number,
  normalize: boolean,
): Generator<Float32Array> {
  for (let start = 0; start < vectors.length; start += inference.dimensions) {
    const row = vectors.subarray(start, start + dimensions);
    if (normalize && dimensions < inference.dimensions) normalizeRows(row, dimensions);
    yield row;
  }
}

/** @throws HttpError `too-large` for the first text that would be cut off */
async function refuseLongTexts(
  texts: readonly string[],
  inference: Inference,
  field: string,
  signal: AbortSignal,
): Promise<void> {
  // Most texts are so short that nobody has to count.
  const places = Array.from(texts.keys()).filter((i) => mostTokens(texts[i]) > inference.maxTokens);
  if (places.length === 0) return;
  const long = places.map((i) => texts[i]);
  const counts = await inference.countTokens(long, { signal, priority: priorityOf(texts) });
  const first = counts.findIndex((tokens) => tokens > inference.maxTokens);
  if (first < 0) return;
  const param = texts.length === 1 ? field : `${field}[${places[first]}]`;
  throw new HttpError(
    'too-large',
    `${param}: expected at most ${inference.maxTokens} tokens, came ${counts[first]}; send "truncate": true to have the rest cut off`,
    { param },
  );
}

/** @throws HttpError `too-large` when the tokens of all texts are too many for one answer */
async function refuseManyTokens(
  texts: readonly string[],
  inference: Inference,
  signal: AbortSignal,
): Promise<void> {
  let most = 0;
  if (texts.every((text) => (most += mostTokens(text)) <= MOST_TOKENS)) return;
  const counts = await inference.countTokens(texts, { signal, priority: priorityOf(texts) });
  const tokens = counts.reduce((sum, count) => sum + count, 0);
  if (tokens > MOST_TOKENS)
    throw new HttpError(
      'too-large',
      `inputs: expected at most ${MOST_TOKENS} tokens in one request, came ${tokens}; send several requests, or parts of a text`,
      { param: 'inputs' },
    );
}

/** Of a text's vector to those of others. */
async function cosines(
  text: string,
  others: readonly string[],
  inference: Inference,
  signal: AbortSignal,
): Promise<number[]> {
  const texts = [text, ...others];
  const vectors = await inference.encode(texts, { signal, normalize: true, priority: priorityOf(texts) });
  const first = rowOf(vectors, inference.dimensions, 0);
  return others.map((_, i) => {
    const other = rowOf(vectors, inference.dimensions, i + 1);
    const cosine = first.reduce((sum, x, j) => sum + x * other[j], 0);
    // Rows of rounded numbers are of length 1 but for the last digits.
    return Math.max(-1, Math.min(1, cosine));
  });
}

/** Highest first; equal ones as they came. */
function ranked(scores: readonly number[]): { index: number; score: number }[] {
  return scores.map((score, index) => ({ index, score })).sort((a, b) => b.score - a.score);
}

async function rerankAsCohere(
  call: Call<'rerankV1' | 'rerankV2'>,
  version: string,
): Promise<components['schemas']['CohereRerankResponse']> {
  const { body, limits, signal } = call;
  const { inference } = generationFor(call, body.model);
  checkText(body.query, 'query', limits);
  const texts = body.documents.map((document) => (typeof document === 'string' ? document : document.text));
  checkTexts(texts, 'documents', limits);
  const ranks = ranked(await cosines(body.query, texts, inference, signal)).slice(0, body.top_n);
  return {
    id: randomUUID(),
    results: ranks.map(({ index, score }) => ({
      index,
      relevance_score: score,
      ...(body.return_documents && { document: { text: texts[index] } }),
    })),
    meta: { api_version: { version } },
  };
}

export const embeddingHandlers: Handlers<
  'embed' | 'createEmbeddings' | 'similarity' | 'rerank' | 'rerankV1' | 'rerankV2' | 'tokenize'
> = {
  async embed(call) {
    const { body, limits, signal, request, response } = call;
    const { inference } = generationFor(call, body.model);
    const texts = [body.inputs].flat();
    checkTexts(texts, 'inputs', limits);
    const dimensions = checkDimensions(body.dimensions, inference);
    if (!body.truncate) await refuseLongTexts(texts, inference, 'inputs', signal);
    const { normalize } = body;
    const vectors = await inference.encode(texts, { signal, normalize, priority: priorityOf(texts) });
    if (request.accepts([JSON_TYPE, BYTES_TYPE]) === BYTES_TYPE) {
      response.type(BYTES_TYPE).send(rowsToBytes([...rows(vectors, inference, dimensions, normalize)]));
      return undefined;
    }
    const lists = Array.from(rows(vectors, inference, dimensions, normalize), rowToJson);
    response.type('json').send(`[${lists.join()}]`);
    return undefined;
  },

  async createEmbeddings(call) {
    const { body, limits, signal, response } = call;
    const { inference } = generationFor(call, body.model);
    const texts = [body.input].flat();
    checkTexts(texts, 'input', limits);
    const dimensions = checkDimensions(body.dimensions, inference);
    const options = { signal, normalize: true, priority: priorityOf(texts) };
    const { vectors, lengths } = await inference.encodeWithLengths(texts, options);
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    const data = Array.from(rows(vectors, inference, dimensions, true), (row, index) => {
      const embedding = body.encoding_format === 'base64' ? `"${rowToBase64(row)}"` : rowToJson(row);
      return `{"object":"embedding","index":${index},"embedding":${embedding}}`;
    });
    const rest = { model: inference.name, usage: { prompt_tokens: tokens, total_tokens: tokens } };
    response.type('json').send(`{"object":"list","data":[${data.join()}],${JSON.stringify(rest).slice(1)}`);
    return undefined;
  },

  async similarity(call) {
    const { inputs, parameters } = call.body;
    const { limits, signal } = call;
    const { inference } = generationFor(call);
    checkText(inputs.source_sentence, 'inputs.source_sentence', limits);
    checkTexts(inputs.sentences, 'inputs.sentences', limits);
    if (parameters?.truncate === false) {
      await refuseLongTexts([inputs.source_sentence], inference, 'inputs.source_sentence', signal);
      await refuseLongTexts(inputs.sentences, inference, 'inputs.sentences', signal);
    }
    return cosines(inputs.source_sentence, inputs.sentences, inference, signal);
  },

  async rerank(call) {
    const { body, limits, signal } = call;
    const { inference } = generationFor(call);
    const { query, texts } = body;
    checkText(query, 'query', limits);
    checkTexts(texts, 'texts', limits);
    if (!body.truncate) {
      await refuseLongTexts([query], inference, 'query', signal);
      await refuseLongTexts(texts, inference, 'texts', signal);
    }
    const ranks = ranked(await cosines(query, texts, inference, signal));
    return ranks.map((rank) => ({ ...rank, ...(body.return_text && { text: texts[rank.index] }) }));
  },

  rerankV1: (call) => rerankAsCohere(call, '1'),
  rerankV2: (call) => rerankAsCohere(call, '2'),

  async tokenize(call) {
    const { body, limits, signal } = call;
    const { inference } = generationFor(call);
    const texts = [body.inputs].flat();
    checkTexts(texts, 'inputs', limits);
    await refuseManyTokens(texts, inference, signal);
    const tokens = await inference.tokenize(texts, { signal, priority: priorityOf(texts) });
    return body.add_special_tokens ? tokens : tokens.map((text) => text.filter(({ special }) => !special));
  },
};
