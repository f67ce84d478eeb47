import { api, dataOf, type Schemas } from '../api/client.js';

type Document = Schemas['Document'];

/** Of texts that were looked at. */
const KEPT = 1000;
const AT_A_TIME = 8;
/** Of more the whole collection is read, in pages: that takes fewer requests. */
const MOST_ONE_BY_ONE = 100;
const PAGE = 1000;
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

/** Documents in the order of their ids; of very many those that are still there. */
export function documentsOf(ids: readonly string[], signal?: AbortSignal): Promise<Document[]> {
  return ids.length > MOST_ONE_BY_ONE ? amongAll(ids, signal) : oneByOne(ids, signal);
}

async function oneByOne(ids: readonly string[], signal?: AbortSignal): Promise<Document[]> {
  const documents: Document[] = [];
  for (let i = 0; i < ids.length; i += AT_A_TIME)
    documents.push(...(await Promise.all(ids.slice(i, i + AT_A_TIME).map((id) => documentOf(id, signal)))));
  return documents;
}

/** Reads page after page of the collection until all are found. */
async function amongAll(ids: readonly string[], signal?: AbortSignal): Promise<Document[]> {
  const wanted = new Set(ids);
  const found = new Map<string, Document>();
  let after: string | undefined;
  do {
    const page = await dataOf(api.GET('/documents', { params: { query: { after, limit: PAGE } }, signal }));
    for (const document of page.documents) if (wanted.has(document.id)) found.set(document.id, document);
    after = page.next ?? undefined;
  } while (after !== undefined && found.size < wanted.size);
  return ids.flatMap((id) => found.get(id) ?? []);
}
