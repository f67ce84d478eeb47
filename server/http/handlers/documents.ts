import { UserError } from '../../../base/errors.js';
import type { Collection, Document } from '../../search/collection.js';
import type { Ingests } from '../../search/ingests.js';
import { ndjson, type Line } from '../body.js';
import { HttpError } from '../errors.js';
import { checkCount, checkText, type Call, type Handlers } from '../handler.js';
import { documentPieces, upsertLines } from '../upsert-lines.js';

/** @throws HttpError `invalid` for an id that is given twice: which of the texts is meant, nobody knows */
function checkUnique(documents: readonly Document[]): void {
  const first = new Map<string, number>();
  documents.forEach(({ id }, i) => {
    const earlier = first.get(id);
    if (earlier !== undefined)
      throw new HttpError(
        'invalid',
        `documents[${i}].id: expected each id once, came ${JSON.stringify(id)} again, which documents[${earlier}] has`,
        { param: `documents[${i}].id` },
      );
    first.set(id, i);
  });
}

function unknownId(id: string): HttpError {
  return new HttpError('not-found', `no document has the id ${JSON.stringify(id)}`, { param: 'id' });
}

/** @throws UserError `usage` where nothing can be queued */
function ingestsOf({ ingests }: Collection): Ingests {
  if (!ingests)
    throw new UserError(
      'usage',
      'documents are queued (?async) where the collection is on PostgreSQL (serve --store postgres://...) and "sentence-jepa worker" embeds them; here leave ?async out, and the answer comes when they are stored',
    );
  return ingests;
}

async function queue(
  { response, services }: Pick<Call<'upsertDocuments'>, 'response' | 'services'>,
  pieces: Parameters<Ingests['queue']>[0],
): Promise<undefined> {
  const ingest = await ingestsOf(services.collection).queue(pieces);
  response.status(202).location(`/ingests/${ingest.id}`).json(ingest);
  return undefined;
}

async function upsertStream(call: Call<'upsertDocuments'>, lines: AsyncIterable<Line>): Promise<undefined> {
  const { request, response } = call;
  const wantsProgress = (request.headers.accept ?? '').includes(ndjson);
  const write = (value: unknown): void => {
    if (!response.headersSent) response.status(200).type(ndjson);
    response.write(JSON.stringify(value) + '\n');
  };
  const stored = await upsertLines(call, lines, wantsProgress ? write : undefined);
  if (!wantsProgress) {
    response.json(stored);
    return;
  }
  write({ ...stored, done: true });
  response.end();
}

export const documentHandlers: Handlers<
  | 'listDocuments'
  | 'upsertDocuments'
  | 'getDocument'
  | 'putDocument'
  | 'deleteDocument'
  | 'listIngests'
  | 'getIngest'
> = {
  async listDocuments({ query, services: { collection } }) {
    const limit = query.limit as number;
    const documents = await collection.list({ after: query.after, limit });
    const next = documents.length === limit ? documents[limit - 1].id : null;
    return { documents, next };
  },

  async upsertDocuments(call) {
    const isQueued = call.query.async !== undefined && call.query.async !== 'false';
    if (isQueued) ingestsOf(call.services.collection);
    const { lines } = call;
    if (lines) return isQueued ? queue(call, documentPieces(call, lines)) : upsertStream(call, lines);
    const documents = Array.isArray(call.body) ? call.body : call.body.documents;
    const wayOut = `send several requests, or a stream of ${ndjson}, which may be of any length`;
    checkCount(documents.length, 'documents', call.limits, wayOut);
    documents.forEach(({ text }, i) => checkText(text, `documents[${i}].text`, call.limits));
    checkUnique(documents);
    if (isQueued) return queue(call, [documents]);
    const counts = await call.services.collection.upsert(documents, call.signal);
    return { stored: documents.length, ...counts };
  },

  async getDocument({ path: { id }, services: { collection } }) {
    const document = await collection.get(id);
    if (!document) throw unknownId(id);
    return document;
  },

  async putDocument({ path: { id }, body, services: { collection }, limits, signal, response }) {
    checkText(body.text, 'text', limits);
    const document = { id, ...body };
    const { inserted } = await collection.upsert([document], signal);
    response.status(inserted === 1 ? 201 : 200);
    return document;
  },

  async deleteDocument({ path: { id }, services: { collection }, response }) {
    if (!(await collection.delete(id))) throw unknownId(id);
    response.status(204).end();
    return undefined;
  },

  async listIngests({ query, services: { collection } }) {
    return { ingests: await ingestsOf(collection).list(query.limit as number) };
  },

  async getIngest({ path, services: { collection } }) {
    const id = Number(path.id);
    const ingest = await ingestsOf(collection).get(id);
    if (!ingest) throw new HttpError('not-found', `there is no ingest ${id}`, { param: 'id' });
    return ingest;
  },
};
