import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';

import type { Browser } from 'playwright-core';

import { call } from '../server/http-support.js';
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

describe('the duplicates page', { skip: noBrowser }, () => {
  let browser: Browser;
  let server: PageServer;
  let pairs: { a: { id: string; text: string }; b: { id: string }; score: number }[];
  before(async () => {
    server = await startPageServer();
    browser = await openBrowser();
    pairs = (await call(`${server.url}/duplicates?threshold=0.7&limit=500`)).body.pairs;
    assert.ok(pairs.length > 2);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  const counts = async (): Promise<{ total: number; relevant: number }> =>
    (await call(`${server.url}/feedback`)).body;

  it('is reviewed with the keyboard alone', async () => {
    const before = await counts();
    await withPage(browser, {}, async (page) => {
      await page.goto(`${server.url}/#duplicates`);
      const slider = page.getByRole('slider');
      await slider.focus();
      for (let i = 0; i < 20; i++) await page.keyboard.press('ArrowLeft');
      await page.getByText(`${pairs.length} pairs`).waitFor();
      const current = page.locator('.hit[aria-current]');
      const first = await current.textContent();
      await page.keyboard.press('j');
      const second = await current.textContent();
      assert.notEqual(second, first);
      await page.keyboard.press('k');
      assert.equal(await current.textContent(), first);
      await page.keyboard.press('y');
      assert.equal(await current.textContent(), second);
      await page.keyboard.press('n');
      await page.getByText('2 reviewed').waitFor();
    });
    const then = await counts();
    assert.deepEqual([then.total - before.total, then.relevant - before.relevant], [2, 1]);
  });

  it('is reviewed with the mouse, and exported', async () => {
    await withPage(browser, {}, async (page) => {
      await page.goto(`${server.url}/#duplicates`);
      await page.getByRole('slider').fill('0.7');
      await page.getByText(`${pairs.length} pairs`).waitFor();
      await page
        .getByRole('button', { name: /^Not a duplicate/ })
        .first()
        .click();
      await page.getByText('1 reviewed').waitFor();
      const download = page.waitForEvent('download');
      await page.getByRole('button', { name: 'Export as NDJSON' }).click();
      const lines = (await readFile(await (await download).path(), 'utf8')).trimEnd().split('\n');
      const exported = lines.map(
        (line) => JSON.parse(line) as (typeof pairs)[number] & { relevant?: boolean },
      );
      const idsOf = (of: typeof pairs): string[] => of.map(({ a, b }) => `${a.id} ${b.id}`).sort();
      assert.deepEqual(idsOf(exported), idsOf(pairs));
      assert.deepEqual(exported.filter(({ relevant }) => relevant !== undefined).length, 1);
    });
  });

  it('remembers what was said while the slider is where no two are alike', async () => {
    await withPage(browser, {}, async (page) => {
      await page.goto(`${server.url}/#duplicates`);
      const slider = page.getByRole('slider');
      await slider.fill('0.7');
      await page
        .getByRole('button', { name: /^Duplicate/ })
        .first()
        .click();
      await page.getByText('1 reviewed').waitFor();
      await slider.fill('1');
      await page.getByText('Move the slider to the left').waitFor();
      await slider.fill('0.7');
      await page.getByText('1 reviewed').waitFor();
    });
  });

  it('says what to do when no two are alike', async () => {
    await withPage(browser, {}, async (page) => {
      await page.goto(`${server.url}/#duplicates`);
      await page.getByRole('slider').fill('1');
      await page.getByText('Move the slider to the left').waitFor();
    });
  });

  for (const colorScheme of ['light', 'dark'] as const)
    it(`is accessible and fits a phone (${colorScheme})`, async () => {
      await withPage(browser, { ...PHONE, colorScheme }, async (page) => {
        await page.goto(`${server.url}/#duplicates`);
        await page.getByRole('slider').fill('0.7');
        await page.locator('.hit').first().waitFor();
        await assertAccessible(page);
        await assertFits(page);
      });
    });
});
