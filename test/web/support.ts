import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import type { AxeResults } from 'axe-core';

import { projectRoot } from '../../base/paths.js';
import { freePort, hasEnded } from '../../bench/processes.js';
import { removeFolder } from '../support/remove-folder.js';

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const axeFile = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** SENTENCE_JEPA_CHROMIUM, or Debian's. */
export const executablePath = process.env.SENTENCE_JEPA_CHROMIUM || '/usr/bin/chromium';

const dev = path.join(projectRoot, '../shared/data/askubuntu-duplicates/dev/corpus.jsonl');

/**
 * A BEIR corpus (.jsonl) to run the tests on instead of the example's questions: Ask Ubuntu's where it is at hand; none
 * where an empty one is named.
 */
const corpus = process.env.SENTENCE_JEPA_WEB_CORPUS ?? (existsSync(dev) ? dev : '');

/** Why nothing can be tested in a browser here; false where it can. */
export const noBrowser: string | false = !existsSync(executablePath)
  ? `no Chromium at ${executablePath}: apt-get install chromium, or name one in SENTENCE_JEPA_CHROMIUM`
  : !existsSync(path.join(projectRoot, 'dist/web/index.html')) &&
    'the pages are not built: npm run build:web';

export function openBrowser(): Promise<Browser> {
  // Everything comes from a server of our own; Chromium's sandbox refuses to work for root, which CI often is.
  return chromium.launch({ executablePath, args: ['--no-sandbox'] });
}

export interface PageServer {
  url: string;
  /** kill -9. */
  kill(): Promise<void>;
  /** On the same port and data. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

const LOADER_KEY = 'brings-the-corpus';

async function load(url: string, file: string): Promise<void> {
  const headers = { 'Content-Type': 'application/x-ndjson', Authorization: `Bearer ${LOADER_KEY}` };
  const answer = await fetch(`${url}/documents`, { method: 'POST', headers, body: await readFile(file) });
  assert.ok(answer.ok, await answer.text());
}

/** The server as a person starts it, with the default encoder and the corpus, or the example's questions. */
export async function startPageServer(...options: string[]): Promise<PageServer> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'pages-'));
  // The corpus may have to be brought in past keys that only look.
  const loader = corpus && options.includes('--api-key') ? ['--api-key', LOADER_KEY] : [];
  let child: ChildProcess;
  const start = async (port: string): Promise<string> => {
    const args = ['serve', '--data-dir', dataDir, '--port', port, '--workers', '1', ...options, ...loader];
    if (!corpus) args.push('--example');
    child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let told = '';
    child.stderr!.on('data', (chunk) => (told += chunk));
    const url = await new Promise<string>((resolve, reject) => {
      child.stderr!.on('data', () => {
        const found = /listening on (http:\S+?)["\s]/.exec(told);
        if (found) resolve(found[1]);
      });
      child.once('close', (code) => reject(new Error(`serve ended with ${code}: ${told}`)));
    });
    while (!(await fetch(`${url}/ready`)).ok) await new Promise((resolve) => setTimeout(resolve, 100));
    return url;
  };
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    const closed = once(child, 'close');
    child.kill(signal);
    await closed;
  };
  // It is started again on it.
  const url = await start(String(await freePort()));
  if (corpus) await load(url, corpus);
  return {
    url,
    kill: () => stop('SIGKILL'),
    async restart() {
      await start(new URL(url).port);
    },
    async close() {
      if (!hasEnded(child)) await stop('SIGTERM');
      await removeFolder(dataDir);
    },
  };
}

/**
 * A tab. What the page itself gets wrong (an error, a refusal of its content security policy, a layer that deck.gl leaves out
 * and only tells the console of) fails the test.
 */
export async function withPage(
  browser: Browser,
  options: BrowserContextOptions,
  use: (page: Page) => Promise<void>,
): Promise<void> {
  const context = await browser.newContext(options);
  try {
    await context.addInitScript({ path: axeFile });
    const page = await context.newPage();
    const wrong: string[] = [];
    page.on('pageerror', (error) => wrong.push(String(error)));
    page.on('console', (message) => {
      if (/Content.Security.Policy|^deck: /i.test(message.text())) wrong.push(message.text());
    });
    await use(page);
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
  }
}

/** Fails when axe finds something serious or critical, and says where. */
export async function assertAccessible(page: Page): Promise<void> {
  const { violations } = await page.evaluate(() =>
    (globalThis as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run(),
  );
  const serious = violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  assert.deepEqual(serious, []);
}

/** The page is no wider than its window. */
export async function assertFits(page: Page): Promise<void> {
  const wider = await page.evaluate(
    'document.documentElement.scrollWidth - document.documentElement.clientWidth',
  );
  assert.equal(wider, 0);
}

export const PHONE = { viewport: { width: 375, height: 700 } };

/** Minutes for thousands of documents on a machine that has other things to do. */
const MAKING_MS = 600_000;

/** Waits until a map is there that nobody works at. */
export async function mapIsMade(page: Page): Promise<void> {
  await page.locator('.map canvas').waitFor({ timeout: MAKING_MS });
  await page.locator('progress').waitFor({ state: 'detached', timeout: MAKING_MS });
}
