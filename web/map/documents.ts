import { api, dataOf, type Schemas } from '../api/client.js';

type Document = Schemas['Document'];

/** Of texts that were looked at. */
const KEPT = 1000;
const AT_A_TIME = 8;
const known = new Map<string, Document>();

/** A document, asked for once. */
export async function documentOf(id: string, signal?: AbortSignal): Promise<Document> {
  const there = known.get(id);
  if (there) return there;
  const document = await dataOf(api.GET('/documents/{id}', { params: { path: { id } }, signal }));
  if (known.size >= KEPT) known.delete(known.keys().next().value!);
  known.set(id, document);
  return document;
}

/** Documents in the order of their ids, some at a time. */
export async function documentsOf(ids: readonly string[], signal?: AbortSignal): Promise<Document[]> {
  const documents: Document[] = [];
  for (let i = 0; i < ids.length; i += AT_A_TIME)
    documents.push(...(await Promise.all(ids.slice(i, i + AT_A_TIME).map((id) => documentOf(id, signal)))));
  return documents;
}
