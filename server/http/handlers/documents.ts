import type { Document } from '../../search/collection.js';
import { mediaType, json, ndjson } from '../body.js';
import { HttpError } from '../errors.js';
import { checkCount, checkText, type Call, type Handlers } from '../handler.js';
import { upsertLines } from '../upsert-lines.js';

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

async function upsertStream(call: Call<'upsertDocuments'>): Promise<undefined> {
  const { request, response } = call;
  const wantsProgress = (request.headers.accept ?? '').includes(ndjson);
  const write = (value: unknown): void => {
    if (!response.headersSent) response.status(200).type(ndjson);
    response.write(JSON.stringify(value) + '\n');
  };
  const stored = await upsertLines(call, wantsProgress ? write : undefined);
  if (!wantsProgress) {
    response.json(stored);
    return;
  }
  write({ ...stored, done: true });
  response.end();
}

export const documentHandlers: Handlers<
  'listDocuments' | 'upsertDocuments' | 'getDocument' | 'putDocument' | 'deleteDocument'
> = {
  async listDocuments({ query, services: { collection } }) {
    const limit = query.limit as number;
    const documents = await collection.list({ after: query.after, limit });
    const next = documents.length === limit ? documents[limit - 1].id : null;
    return { documents, next };
  },

  async upsertDocuments(call) {
    if (mediaType(call.request, [json, ndjson]) === ndjson) return upsertStream(call);
    const documents = Array.isArray(call.body) ? call.body : call.body.documents;
    const wayOut = `send several requests, or a stream of ${ndjson}, which may be of any length`;
    checkCount(documents.length, 'documents', call.limits, wayOut);
    documents.forEach(({ text }, i) => checkText(text, `documents[${i}].text`, call.limits));
    checkUnique(documents);
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
};
