import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';

import type { Browser, Page } from 'playwright-core';

import { call } from '../server/http-support.js';
import {
  assertAccessible,
  assertFits,
  mapIsMade,
  noBrowser,
  openBrowser,
  PHONE,
  startPageServer,
  withPage,
  type PageServer,
} from './support.js';

describe('the map page', { skip: noBrowser }, () => {
  let browser: Browser;
  let server: PageServer;
  let documents: number;
  before(async () => {
    server = await startPageServer();
    // Whatever the collection, one of its documents has metadata.
    await put('a-disk', { text: 'my usb disk is not found', metadata: { topic: 'disks' } });
    browser = await openBrowser();
    documents = (await call(`${server.url}/info`)).body.documents;
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  const put = (id: string, document: unknown): ReturnType<typeof call> =>
    call(`${server.url}/documents/${id}`, {
      method: 'PUT',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(document),
    });

  const open = async (page: Page): Promise<void> => {
    await page.goto(`${server.url}/#map`);
    await page.getByText(`${documents.toLocaleString('en')} documents in`).waitFor();
    await page.locator('.map canvas').waitFor();
  };

  /** The text whose neighbours are shown, which the map names as well. */
  const opened = async (page: Page): Promise<string> => {
    const heading = page.getByRole('heading', { name: /^Neighbours of/ });
    const [, text] = /“(.*)”/.exec((await heading.textContent())!)!;
    await page.locator('.map-text').getByText(text, { exact: true }).waitFor();
    return text;
  };

  it('is made when somebody asks for it', async () => {
    await withPage(browser, {}, async (page) => {
      await page.goto(`${server.url}/#map`);
      await page.getByText('There is no map of').waitFor();
      await assertAccessible(page);
      await page.getByRole('button', { name: 'Make the map' }).click();
      await mapIsMade(page);
      await page.getByText(`${documents.toLocaleString('en')} documents in`).waitFor();
    });
  });

  it('draws its points, elsewhere in another layout and fainter beside a selection', async () => {
    await withPage(browser, {}, async (page) => {
      await open(page);
      /** What is not grey, summed over each eighth of the map's width. */
      const drawn = async (): Promise<number[]> => {
        // Longer than points take to move.
        await page.waitForTimeout(2000);
        return page.evaluate(colourOf, [...(await page.locator('.map canvas').screenshot())]);
      };
      const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
      const umap = await drawn();
      assert.ok(sum(umap) > 0, 'no coloured pixel on the map');
      await page.getByLabel('Laid out by').selectOption('pca');
      const pca = await drawn();
      assert.ok(sum(pca) > 0, 'no coloured pixel on the map after a move');
      assert.notDeepEqual(pca, umap);
      await page.getByRole('list', { name: 'Clusters' }).getByRole('button').first().click();
      const selected = await drawn();
      assert.ok(sum(selected) > 0 && sum(selected) < 0.8 * sum(pca), `${sum(selected)} of ${sum(pca)}`);
    });
  });

  it('is walked with the keyboard alone, from one document to its neighbours', async () => {
    await withPage(browser, {}, async (page) => {
      await open(page);
      await page.getByRole('application').focus();
      for (const key of ['ArrowRight', 'ArrowLeft', 'ArrowUp', 'ArrowRight', '+', 'Enter'])
        await page.keyboard.press(key);
      await opened(page);
      const hits = page.getByRole('region', { name: /^Neighbours/ }).locator('.hit');
      await hits.nth(9).waitFor();
      assert.equal(await hits.count(), 10);
    });
  });

  it('is looked at with the mouse: text under the pointer, neighbours by a click, many by a lasso', async () => {
    await withPage(browser, {}, async (page) => {
      await open(page);
      const box = (await page.locator('.map').boundingBox())!;
      const middle = [box.x + box.width / 2, box.y + box.height / 2];
      const told = page.locator('.map-text');
      const neighbours = page.getByRole('heading', { name: /^Neighbours of/ });
      // Points are everywhere, but not at any one place; a text may come when the pointer is past its point.
      for (let i = 0; (await neighbours.count()) === 0; i++) {
        assert.ok(i < 400, 'no text under the pointer, and no neighbours after a click there');
        const [x, y] = [middle[0] + 8 * (i % 20) - 80, middle[1] + 8 * Math.floor(i / 20) - 80];
        await page.mouse.move(x, y);
        await page.waitForTimeout(100);
        if ((await told.textContent()) === '') continue;
        await page.mouse.down();
        await page.mouse.up();
        await page.waitForTimeout(500);
      }
      assert.notEqual(await opened(page), '');

      await page.getByRole('button', { name: 'Lasso' }).click();
      await page.locator('.map').scrollIntoViewIfNeeded();
      const { x, y, width, height } = (await page.locator('.map').boundingBox())!;
      await page.mouse.move(x + 1, y + 1);
      await page.mouse.down();
      for (const [u, v] of [
        [width - 1, 1],
        [width - 1, height - 1],
        [1, height - 1],
      ])
        await page.mouse.move(x + u, y + v);
      await page.mouse.up();
      await page
        .getByRole('heading', { name: `${documents.toLocaleString('en')} documents selected` })
        .waitFor();
      const download = page.waitForEvent('download');
      const list = page.getByRole('region', { name: /selected$/ });
      await list.getByRole('button', { name: 'Download as NDJSON' }).click();
      const lines = (await readFile(await (await download).path(), 'utf8')).trimEnd().split('\n');
      const ids = new Set(lines.map((line) => (JSON.parse(line) as { id: string; text: string }).id));
      assert.equal(ids.size, documents);
    });
  });

  it('shows where a text would lie, selects clusters and takes colours from metadata', async () => {
    await withPage(browser, {}, async (page) => {
      await open(page);
      await page.getByLabel('Where would this lie?').fill('usb stick does not show up');
      await page.getByText('10 of them near your text').waitFor();
      await page.getByLabel('Colour by').selectOption('topic');
      await page.getByRole('list', { name: 'Colours' }).getByText('disks').waitFor();
      const cluster = page.getByRole('list', { name: 'Clusters' }).getByRole('button').first();
      const size = /\((.+)\)$/.exec((await cluster.textContent())!)![1];
      await cluster.click();
      await page.getByRole('heading', { name: `${size} documents selected` }).waitFor();
      await page.getByLabel('Laid out by').selectOption('pca');
      await assertAccessible(page);
    });
  });

  it('says so where there is no WebGL, and lists clusters all the same', async () => {
    await withPage(browser, {}, async (page) => {
      await page.addInitScript(() => {
        const canvas = (
          globalThis as unknown as { HTMLCanvasElement: { prototype: { getContext: unknown } } }
        ).HTMLCanvasElement;
        canvas.prototype.getContext = (): null => null;
      });
      await page.goto(`${server.url}/#map`);
      await page.getByText('This browser has no WebGL 2').waitFor();
      await page.getByRole('list', { name: 'Clusters' }).getByRole('button').first().click();
      await page.getByRole('heading', { name: /documents selected/ }).waitFor();
    });
  });

  it('says that documents came since, and is made again', async () => {
    await put('late', { text: 'a late one' });
    await withPage(browser, {}, async (page) => {
      await page.goto(`${server.url}/#map`);
      await page.getByText('1 that came').waitFor();
      await page.getByRole('list', { name: 'Clusters' }).getByRole('button').first().click();
      const selected = page.getByRole('heading', { name: /documents selected$/ });
      const before = await selected.textContent();
      await page.getByRole('button', { name: 'Make it again' }).click();
      await page.getByText('1 that came').waitFor({ state: 'detached' });
      await mapIsMade(page);
      await page.getByText(`${(documents + 1).toLocaleString('en')} documents in`).waitFor();
      assert.equal(await selected.textContent(), before);
    });
    await call(`${server.url}/documents/late`, { method: 'DELETE' });
  });

  it('finds its points, and is walked, where each of two models has documents that the other lacks', async () => {
    await withPage(browser, {}, async (page) => {
      await withTwoMaps(page);
      await page.goto(`${server.url}/#map`);
      await page.getByText('100 documents in').waitFor();
      await page.locator('.map').scrollIntoViewIfNeeded();
      const { x, y, width, height } = (await page.locator('.map').boundingBox())!;
      /** Moves the mouse to a row of the grid until its text is told. */
      const pointAt = async (model: string, row: number, zoom = 0): Promise<void> => {
        const pixels = (0.9 * Math.min(width, height) * 2 ** zoom) / (SIDE - 1);
        const middle = (SIDE - 1) / 2;
        const [u, v] = [(row % SIDE) - middle, Math.floor(row / SIDE) - middle];
        const told = page.locator('.map-text').getByText(textOf(idOf(model, row)), { exact: true });
        for (let i = 0; (await told.count()) === 0; i++) {
          assert.ok(i < 200, `${textOf(idOf(model, row))} is not under the pointer`);
          await page.mouse.move(x + width / 2 + u * pixels + (i % 2), y + height / 2 - v * pixels);
          await page.waitForTimeout(100);
        }
      };
      const model = page.getByRole('combobox', { name: /^Model/ });
      for (const name of ['one', 'two']) {
        await model.selectOption(name);
        for (let row = 0; row < SIDE * SIDE; row += SIDE + 1) await pointAt(name, row);
      }
      await page.mouse.down();
      await page.mouse.up();
      await page.getByRole('heading', { name: `Neighbours of “${textOf(idOf('two', 99))}”` }).waitFor();
      await model.selectOption('one');
      await page.getByRole('application').focus();
      await page.keyboard.press('+');
      await pointAt('one', 44, 1);
      await page.keyboard.press('ArrowRight');
      await page
        .locator('.map-text')
        .getByText(textOf(idOf('one', 0)), { exact: true })
        .waitFor();
    });
  });

  it('shows the model that another tab has put live', async () => {
    await withPage(browser, {}, async (page) => {
      const putLive = await withTwoMaps(page);
      await page.goto(`${server.url}/#map`);
      await page.getByText('100 documents in').waitFor();
      const model = page.getByRole('combobox', { name: /^Model/ });
      assert.equal(await model.inputValue(), 'one');
      putLive('two');
      while ((await model.inputValue()) !== 'two') await page.waitForTimeout(100);
    });
  });

  it('fits a phone, in light and in dark', async () => {
    for (const colorScheme of ['light', 'dark'] as const)
      await withPage(browser, { ...PHONE, colorScheme }, async (page) => {
        await page.goto(`${server.url}/#map`);
        await page.locator('.map canvas').waitFor();
        await assertAccessible(page);
        await assertFits(page);
      });
  });
});

const SIDE = 10;
const idOf = (model: string, row: number): string => `${model}-${row}`;
const textOf = (id: string): string => `text of ${id}`;

/**
 * Has the page believe that there are two models, each with a map of its own documents: a square grid.
 *
 * @returns puts one of them live, which is "one" before
 */
async function withTwoMaps(page: Page): Promise<(model: string) => void> {
  let live = 'one';
  const rows = Array.from({ length: SIDE * SIDE }, (_, row) => row);
  const grid = { x: rows.map((row) => row % SIDE), y: rows.map((row) => Math.floor(row / SIDE)) };
  const made = '2026-01-01T00:00:00.000Z';
  const models = ['one', 'two'];
  const ofModel = (url: URL): { model: string; generation: number } => {
    const model = url.searchParams.get('model')!;
    return { model, generation: models.indexOf(model) };
  };
  const answers: Record<string, ((url: URL) => unknown) | undefined> = {
    '/info': () => ({ model_id: live, documents: 2 * SIDE * SIDE }),
    '/models': () => ({ models: models.map((name) => ({ name, served: true })) }),
    '/map': (url) => ({ ...ofModel(url), state: 'ready', made, layouts: ['umap', 'pca'] }),
    '/map/points': (url) => ({
      ...{ ...ofModel(url), made, umap: grid, pca: grid, fields: [] },
      ids: rows.map((row) => idOf(ofModel(url).model, row)),
      cluster: rows.map(() => 0),
      clusters: [{ words: ['text'], size: rows.length }],
    }),
    '/documents': ({ pathname }) => {
      const id = pathname.split('/').at(-1)!;
      return { id, text: textOf(id) };
    },
    '/search': (url) => ({ ...ofModel(url), mode: 'dense', hits: [] }),
  };
  await page.route('**', (route) => {
    const url = new URL(route.request().url());
    const answer = answers[url.pathname.replace(/^\/documents\/.*/, '/documents')];
    return answer ? route.fulfill({ json: answer(url) }) : route.continue();
  });
  return (model) => (live = model);
}

/** Of a PNG file's bytes. Runs in the page. */
async function colourOf(png: number[]): Promise<number[]> {
  const { document, createImageBitmap } = globalThis as unknown as {
    createImageBitmap(blob: Blob): Promise<{ width: number; height: number }>;
    document: { createElement(name: 'canvas'): Canvas2d };
  };
  interface Canvas2d {
    width: number;
    height: number;
    getContext(kind: '2d'): {
      drawImage(image: unknown, x: number, y: number): void;
      getImageData(x: number, y: number, width: number, height: number): { data: Uint8ClampedArray };
    };
  }
  const image = await createImageBitmap(new Blob([Uint8Array.from(png)]));
  const canvas = Object.assign(document.createElement('canvas'), {
    width: image.width,
    height: image.height,
  });
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  const sums = Array<number>(8).fill(0);
  for (let i = 0; i < data.length; i += 4) {
    const colour = Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]);
    // Less is grey text or a rounding.
    if (colour > 8) sums[Math.floor((8 * ((i / 4) % image.width)) / image.width)] += colour;
  }
  return sums;
}
