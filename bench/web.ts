import { createReadStream, existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

import { UserError } from '../base/errors.js';
import { BenchProcess, freePort } from './processes.js';
import { figure, markdownTable } from './report.js';
import { median } from './statistics.js';

export interface WebOptions {
  /** A model folder, or the name of a model. */
  model: string;
  /** A BEIR corpus (.jsonl), which is searched. */
  corpus: string;
  /** What is typed. */
  queries: readonly string[];
  /** A Chromium. */
  browser: string;
  say(line: string): void;
}

/** Milliseconds from the last key of a query. */
interface Typed {
  /** Until the page asks the server. */
  asked: number;
  /** Until the first results are on the screen. */
  shown: number;
}

export interface WebBench {
  documents: number;
  queries: number;
  asked: { median: number; worst: number };
  shown: { median: number; worst: number };
}

/** Between two keys: of somebody who types fast. */
const KEY_MS = 80;

/**
 * In the page, before its own scripts: notes when a key is pressed, when the search for what is in the box is sent, and when
 * a frame with its results has been painted. In JavaScript, since it runs elsewhere.
 */
const STOPWATCH = `
  let key, sent, answered;
  globalThis.typed = undefined;
  addEventListener('keydown', (event) => {
    key = event.timeStamp;
    answered = globalThis.typed = undefined;
  }, true);
  const ask = globalThis.fetch;
  globalThis.fetch = async (request, ...rest) => {
    const query = /\\/search$/.test(request.url) ? JSON.parse(await request.clone().text()).query : undefined;
    const at = performance.now();
    const response = await ask(request, ...rest);
    if (query !== undefined) [sent, answered] = [at, query];
    return response;
  };
  new MutationObserver(() => {
    const results = document.querySelector('.results[aria-busy=false]');
    const box = document.querySelector('input[type=search]');
    if (!results?.querySelector('.hit') || box.value.trim() !== answered) return;
    const before = key;
    requestAnimationFrame(() => setTimeout(() => {
      // Another key may have come since.
      if (key === before) globalThis.typed ??= { asked: sent - key, shown: performance.now() - key };
    }));
  }).observe(document, { subtree: true, childList: true, attributes: true });
`;

/**
 * The page Search with a collection behind it, in Chromium: how long after the last key of a query its first results are
 * there.
 *
 * @throws UserError `not-found` without a Chromium
 */
export async function benchWeb({ model, corpus, queries, browser, say }: WebOptions): Promise<WebBench> {
  if (!existsSync(browser))
    throw new UserError('not-found', `${browser}: no such program; name a Chromium with --browser`);
  // A development dependency, as the tests' own.
  const { chromium } = await import('playwright-core');
  const dataDir = await mkdtemp(path.join(tmpdir(), 'bench-web-'));
  const port = await freePort();
  const script = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const server = new BenchProcess('sentence-jepa', process.execPath, [
    ...[script, 'serve', '--model', model, '--data-dir', dataDir],
    ...['--host', '127.0.0.1', '--port', String(port), '--log-level', 'error'],
  ]);
  const url = `http://127.0.0.1:${port}`;
  try {
    await server.answers(`${url}/ready`);
    const documents = await fill(url, corpus);
    say(`${documents} documents`);
    const chrome = await chromium.launch({ executablePath: browser, args: ['--no-sandbox'] });
    try {
      const page = await chrome.newPage();
      await page.addInitScript(STOPWATCH);
      await page.goto(url);
      const box = page.getByRole('searchbox');
      const typed: Typed[] = [];
      // The first one warms up.
      for (const [i, query] of [queries[0], ...queries].entries()) {
        await box.fill('');
        await box.pressSequentially(query, { delay: KEY_MS });
        // A function, not its text: the page's policy forbids to evaluate one.
        const times = await page.waitForFunction(() => (globalThis as { typed?: Typed }).typed);
        if (i > 0) typed.push((await times.jsonValue())!);
        say(`${i} of ${queries.length} queries`);
      }
      return {
        documents,
        queries: queries.length,
        asked: summary(typed.map(({ asked }) => asked)),
        shown: summary(typed.map(({ shown }) => shown)),
      };
    } finally {
      await chrome.close();
    }
  } finally {
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function fill(url: string, corpus: string): Promise<number> {
  const answer = await fetch(`${url}/documents`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: Readable.toWeb(createReadStream(corpus)) as ReadableStream,
    duplex: 'half',
  });
  const text = await answer.text();
  if (!answer.ok) throw new UserError('invalid', `${corpus}: ${text.slice(0, 300)}`);
  return (JSON.parse(text) as { inserted: number }).inserted;
}

function summary(milliseconds: readonly number[]): { median: number; worst: number } {
  return { median: median(milliseconds), worst: Math.max(...milliseconds) };
}

export function webTable({ documents, queries, asked, shown }: WebBench): string {
  return [
    `${queries} queries over ${documents.toLocaleString('en')} documents, typed with ${KEY_MS} ms between keys. Milliseconds after the last key:`,
    markdownTable(
      ['', 'median', 'worst'],
      [
        ['the page asks (its debounce)', figure(asked.median), figure(asked.worst)],
        ['the first results are shown', figure(shown.median), figure(shown.worst)],
      ],
    ),
  ].join('\n\n');
}
