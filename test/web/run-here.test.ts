import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import type { Browser, Page } from 'playwright-core';

import { post } from '../server/http-support.js';
import { makeTinyModel } from '../support/tiny-model.js';
import {
  assertAccessible,
  assertFits,
  noBrowser,
  openBrowser,
  PHONE,
  startPageServer,
  withPage,
  type PageServer,
} from './support.js';

/** Some ten megabytes and their compilation, on a busy machine. */
const LOADED_MS = 120_000;

async function load(page: Page): Promise<void> {
  await page.getByText('Run it here').click();
  await page.getByRole('button', { name: 'Load the model' }).click();
}

describe('"Run it here"', { skip: noBrowser }, () => {
  let browser: Browser;
  let server: PageServer;
  before(async () => {
    // Whose vector is compared with the page's: the kernels' is rounded otherwise.
    server = await startPageServer('--api-key', 'read:look', '--backend', 'onnxruntime');
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  const open = async (page: Page): Promise<void> => {
    await page.addInitScript("sessionStorage.setItem('key', 'look')");
    await page.goto(server.url);
    await page.getByText('Type a question').waitFor();
  };

  it("computes the server's vector in the page, with what the server has, and nothing from elsewhere", async () => {
    await withPage(browser, PHONE, async (page) => {
      const elsewhere: string[] = [];
      page.on('request', (request) => {
        if (!/^(blob|data):/.test(request.url()) && new URL(request.url()).origin !== server.url)
          elsewhere.push(request.url());
      });
      await open(page);
      await load(page);
      await page.getByText(/^Loaded [\d.]+ of [\d.]+ MB$/).waitFor({ timeout: LOADED_MS });
      const [loaded, total] = (await page.getByText(/^Loaded /).textContent())!.match(/[\d.]+/g)!;
      assert.equal(loaded, total);
      assert.ok(Number(loaded) > 14, 'the runtime alone is more');
      await page.getByText('Type a question to see its two vectors').waitFor();
      // The second is longer than what the encoder reads.
      for (const question of ['my usb stick does not show up', 'wifi ist langsam \u{1F4E1} '.repeat(60)]) {
        const headers = { 'Content-Type': 'application/json', Authorization: 'Bearer look' };
        const { body } = await post(`${server.url}/embed`, { inputs: question.trim() }, headers);
        await page.getByLabel('Question').fill(question);
        await page
          .getByRole('cell', { name: body[0][0].toFixed(6) })
          .first()
          .waitFor();
        await page.getByText(/^Embedded here in [\d.]+ ms/).waitFor();
        const cosine = Number(await page.locator('output').textContent());
        assert.ok(cosine >= 0.9999 && cosine <= 1.000001, `cosine ${cosine}`);
        const cells = await page.locator('td').allTextContents();
        assert.equal(cells.length, 10);
        for (let i = 0; i < cells.length; i += 2)
          assert.ok(Math.abs(Number(cells[i]) - Number(cells[i + 1])) < 1e-5, `${cells[i]} ${cells[i + 1]}`);
        await page.locator('.hit').first().waitFor();
      }
      assert.deepEqual(elsewhere, []);
      await assertAccessible(page);
      await assertFits(page);
    });
  });

  for (const [what, options] of Object.entries({
    'that is pooled by [CLS]': { pooling: 'cls' },
    'with a Dense module': { dense: [24] },
  } as const))
    it(`computes the vector of a model ${what}`, async () => {
      const home = await mkdtemp(path.join(tmpdir(), 'run-here-'));
      const folder = path.join(home, 'tiny');
      await makeTinyModel(folder, options);
      const tiny = await startPageServer('--model', folder);
      try {
        await withPage(browser, {}, async (page) => {
          await page.goto(tiny.url);
          await load(page);
          await page.getByLabel('Question').fill('usb disk is black');
          await page.locator('output').waitFor({ timeout: LOADED_MS });
          const cosine = Number(await page.locator('output').textContent());
          assert.ok(cosine >= 0.9999, `cosine ${cosine}`);
        });
      } finally {
        await tiny.close();
        await rm(home, { recursive: true });
      }
    });

  it('says why a file was refused, and loads again', async () => {
    await withPage(browser, {}, async (page) => {
      await open(page);
      await page.route('**/onnx/model.onnx', (route) =>
        route.fulfill({
          status: 404,
          json: { error: 'file: expected one of config.json', error_type: 'not-found' },
        }),
      );
      await load(page);
      await page.getByText('file: expected one of config.json').waitFor({ timeout: LOADED_MS });
      await page.unroute('**/onnx/model.onnx');
      await page.getByRole('button', { name: 'Try again' }).click();
      await page.getByText(/^Loaded /).waitFor({ timeout: LOADED_MS });
    });
  });
});
