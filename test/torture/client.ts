import { setTimeout as sleep } from 'node:timers/promises';

import type { Random } from '../../base/random.js';
import type { Journal } from './journal.js';

/** Ids of one writer: so few that most writes replace. */
const IDS = 150;
const WORDS = ['usb', 'drive', 'sound', 'wireless', 'kernel', 'window', 'install', 'boot', 'screen', 'panel'];

export interface Hit {
  id: string;
  text: string;
  score: number;
}

/** Writes until the server is gone; everything goes into the journal. Several run at a time, each with ids of its own. */
export async function write(url: string, name: string, random: Random, journal: Journal): Promise<void> {
  for (let i = 0; ; i++) {
    const ids = [
      ...new Set(Array.from({ length: 1 + random.below(8) }, () => `${name}-${random.below(IDS)}`)),
    ];
    const isDelete = random.below(4) === 0;
    const written = isDelete ? ids.slice(0, 1) : ids;
    // Another text in every write and every document, so that each is its own nearest.
    const textOf = (id: string): string => `${id} ${words(random)} ${i} ${random.below(1e6)}`;
    const documents = isDelete ? [] : ids.map((id) => ({ id, text: textOf(id) }));
    for (const [n, id] of written.entries()) journal.sends([id], documents[n]?.text);
    const way = isDelete ? 'delete' : ids.length === 1 ? 'put' : random.below(2) === 0 ? 'list' : 'stream';
    let status: number;
    try {
      status = await ways[way](url, documents, ids[0]);
    } catch {
      // Cut off: it may have been done or not.
      return;
    }
    if (status < 300 || (isDelete && status === 404))
      for (const [n, id] of written.entries()) journal.acknowledges([id], documents[n]?.text);
    else {
      // Of a stream that is refused, a part may be stored.
      if (way !== 'stream') journal.refuses(written);
      await sleep(20);
    }
  }
}

function words(random: Random): string {
  return Array.from({ length: 4 }, () => WORDS[random.below(WORDS.length)]).join(' ');
}

type Documents = readonly { id: string; text: string }[];

/** Each has its own way through the server. @returns the status */
const ways: Record<string, (url: string, documents: Documents, id: string) => Promise<number>> = {
  delete: (url, _, id) => statusOf(fetch(`${url}/documents/${id}`, { method: 'DELETE' })),
  put: (url, [{ id, text }]) => statusOf(send('PUT', `${url}/documents/${id}`, JSON.stringify({ text }))),
  list: (url, documents) => statusOf(send('POST', `${url}/documents`, JSON.stringify(documents))),
  stream(url, documents) {
    const lines = documents.map((document) => JSON.stringify(document) + '\n').join('');
    return statusOf(send('POST', `${url}/documents`, lines, 'application/x-ndjson'));
  },
};

function send(method: string, url: string, body: string, type = 'application/json'): Promise<Response> {
  return fetch(url, { method, body, headers: { 'Content-Type': type } });
}

/** @throws when the answer is cut off */
async function statusOf(answered: Promise<Response>): Promise<number> {
  const answer = await answered;
  await answer.text();
  return answer.status;
}

export async function getJson<T>(url: string): Promise<T> {
  const answer = await fetch(url);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`GET ${url}: ${answer.status} ${text}`);
  return JSON.parse(text) as T;
}

/** Every document, by its id. */
export async function readAll(url: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (let next: string | null = ''; next !== null;) {
    const page: { documents: { id: string; text: string }[]; next: string | null } = await getJson(
      `${url}/documents?limit=1000${next && `&after=${encodeURIComponent(next)}`}`,
    );
    for (const { id, text } of page.documents) found.set(id, text);
    ({ next } = page);
  }
  return found;
}

export async function search(url: string, query: string, mode = 'dense', k = 5): Promise<Hit[]> {
  const { hits } = await getJson<{ hits: Hit[] }>(
    `${url}/search?q=${encodeURIComponent(query)}&mode=${mode}&k=${k}`,
  );
  return hits;
}
