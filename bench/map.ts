import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import type { Page } from 'playwright-core';

import { UserError } from '../base/errors.js';
import { BenchProcess, freePort } from './processes.js';
import { figure, markdownTable } from './report.js';

export interface MapOptions {
  /** A model folder, or the name of a model: of the collection. */
  model: string;
  /** As `serve --precision` takes it. */
  precision: string;
  /** Of a collection; a map is made in it if there is none. Not of a server that runs. */
  dataDir: string;
  /** A Chromium. */
  browser: string;
  say(line: string): void;
}

export interface MapBench {
  points: number;
  /** WebGL's name for what draws. */
  renderer: string;
  /** Undefined where the map was there already. */
  layoutSeconds?: number;
  /** Frames per second. */
  panning: number;
  zooming: number;
  moving: number;
}

const SECONDS = 4;

/** Frames a second while something is done over and over, by the page's own clock. */
async function framesWhile(page: Page, act: () => Promise<unknown>): Promise<number> {
  let done = false;
  const counted = page
    .evaluate(
      (milliseconds) =>
        new Promise<number>((resolve) => {
          const { requestAnimationFrame: next } = globalThis as unknown as {
            requestAnimationFrame(f: () => void): void;
          };
          const start = performance.now();
          let frames = 0;
          const count = (): void => {
            const passed = performance.now() - start;
            if (passed >= milliseconds) return resolve(frames / (passed / 1000));
            frames++;
            next(count);
          };
          next(count);
        }),
      SECONDS * 1000,
    )
    .finally(() => (done = true));
  while (!done) await act();
  return counted;
}

/**
 * The page Map over a collection, in Chromium, with whatever draws there: how long its layout takes, and how smoothly it moves.
 *
 * @throws UserError `not-found` without a Chromium or a collection
 */
export async function benchMap({ model, precision, dataDir, browser, say }: MapOptions): Promise<MapBench> {
  for (const [file, option] of [
    [browser, '--browser'],
    [dataDir, '--data-dir'],
  ])
    if (!existsSync(file))
      throw new UserError('not-found', `${file}: is not there; name another with ${option}`);
  // A development dependency, as the tests' own.
  const { chromium } = await import('playwright-core');
  const port = await freePort();
  const script = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const server = new BenchProcess('sentence-jepa', process.execPath, [
    ...[script, 'serve', '--model', model, '--precision', precision, '--data-dir', dataDir],
    ...['--host', '127.0.0.1', '--port', String(port), '--log-level', 'error'],
  ]);
  const url = `http://127.0.0.1:${port}`;
  try {
    await server.answers(`${url}/ready`);
    const layoutSeconds = await makeMap(url, say);
    // A graphics card where there is one, also without a screen: then Vulkan is the way to it.
    const vulkan = ['--use-angle=vulkan', '--enable-features=Vulkan', '--disable-vulkan-surface'];
    const args = ['--no-sandbox', '--enable-gpu', '--ignore-gpu-blocklist', ...vulkan];
    const chrome = await chromium.launch({ executablePath: browser, args });
    try {
      const page = await chrome.newPage();
      await page.goto(`${url}/#map`);
      const map = page.locator('.map');
      await map.locator('canvas').waitFor({ timeout: 120_000 });
      await map.scrollIntoViewIfNeeded();
      const layOut = (by: string): Promise<unknown> => page.getByLabel('Laid out by').selectOption(by);
      const shown = async (): Promise<Buffer> => {
        await sleep(2000);
        return map.locator('canvas').screenshot();
      };
      // An empty canvas is a smooth one.
      const first = await shown();
      await layOut('pca');
      if (first.equals(await shown()))
        throw new UserError('backend', 'the map looks the same in both layouts: nothing is drawn');
      await layOut('umap');
      await sleep(2000);
      const { x, y, width, height } = (await map.boundingBox())!;
      const [middle, centre] = [x + width / 2, y + height / 2];
      await page.mouse.move(middle, centre);
      await page.mouse.down();
      let step = 0;
      const panning = await framesWhile(page, () =>
        page.mouse.move(middle + 80 * Math.sin(++step / 10), centre + 80 * Math.cos(step / 10)),
      );
      await page.mouse.up();
      const zooming = await framesWhile(page, () => page.mouse.wheel(0, ++step % 40 < 20 ? -40 : 40));
      const layouts = ['pca', 'umap'];
      const moving = await framesWhile(page, async () => {
        await layOut(layouts[++step % 2]);
        await sleep(1200);
      });
      const response = await fetch(`${url}/map`);
      const { points } = (await response.json()) as { points: number };
      return { points, renderer: await rendererOf(page), layoutSeconds, panning, zooming, moving };
    } finally {
      await chrome.close();
    }
  } finally {
    await server.stop();
  }
}

async function makeMap(url: string, say: (line: string) => void): Promise<number | undefined> {
  const state = async (): Promise<{ state: string; progress?: number; error?: string }> =>
    (await (await fetch(`${url}/map`)).json()) as { state: string };
  if (['ready', 'stale'].includes((await state()).state)) return undefined;
  const start = performance.now();
  const answer = await fetch(`${url}/map`, { method: 'POST' });
  if (!answer.ok) throw new UserError('invalid', await answer.text());
  for (;;) {
    const now = await state();
    if (now.state === 'ready') return (performance.now() - start) / 1000;
    if (now.state !== 'building') throw new UserError('backend', now.error ?? now.state);
    say(`map: ${Math.round(100 * (now.progress ?? 0))} %`);
    await sleep(1000);
  }
}

/** What Chromium gives a WebGL context to draw with: a graphics card, or SwiftShader, which is a program. */
function rendererOf(page: Page): Promise<string> {
  return page.evaluate(() => {
    const { document } = globalThis as unknown as {
      document: { createElement(name: string): { getContext(name: string): WebGl } };
    };
    interface WebGl {
      getExtension(name: string): { UNMASKED_RENDERER_WEBGL: number };
      getParameter(which: number): string;
    }
    const context = document.createElement('canvas').getContext('webgl2');
    return context.getParameter(context.getExtension('WEBGL_debug_renderer_info').UNMASKED_RENDERER_WEBGL);
  });
}

export function mapTable({ points, renderer, layoutSeconds, panning, zooming, moving }: MapBench): string {
  return [
    `${points.toLocaleString('en')} points, drawn by ${renderer}; layout ${layoutSeconds === undefined ? 'was there' : `${figure(layoutSeconds)} s`}. Frames per second:`,
    markdownTable(
      ['panning', 'zooming', 'moving between two layouts'],
      [[figure(panning), figure(zooming), figure(moving)]],
    ),
  ].join('\n\n');
}
