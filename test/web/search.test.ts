import assert from 'node:assert/strict';
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

describe('the search page', { skip: noBrowser }, () => {
  let browser: Browser;
  let server: PageServer;
  before(async () => {
    server = await startPageServer();
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  const counts = async (): Promise<{ total: number; relevant: number }> =>
    (await call(`${server.url}/feedback`)).body;

  it('finds while typing, and takes what somebody says of a hit, with the keyboard alone', async () => {
    const before = await counts();
    await withPage(browser, {}, async (page) => {
      await page.goto(server.url);
      await page.getByText('Type a question').waitFor();
      await page.keyboard.press('/');
      await page.keyboard.type('my usb stick does not show up');
      const { hits } = (await call(`${server.url}/search?q=my+usb+stick+does+not+show+up`)).body;
      const first = page.locator('.hit').first();
      await first.getByText(hits[0].text, { exact: true }).waitFor();
      const duplicate = first.getByRole('button', { name: /^Duplicate/ });
      while (!(await duplicate.evaluate((button) => button.matches(':focus'))))
        await page.keyboard.press('Tab');
      await page.keyboard.press('Enter');
      await first.locator('button[aria-pressed=true]').waitFor();
    });
    const then = await counts();
    assert.deepEqual([then.total - before.total, then.relevant - before.relevant], [1, 1]);
  });

  it('marks the words of the question, by words as by meaning, with the mouse', async () => {
    await withPage(browser, {}, async (page) => {
      await page.goto(server.url);
      await page.getByLabel('Question').fill('BLUETOOTH');
      await page.getByLabel('Search by').selectOption('lexical');
      // Until the answer by words is there, the page shows that by meaning, whose buttons go with it.
      await page.locator('.score[title="Score (lexical)"]').first().waitFor();
      for (const marked of await page.locator('.hit mark').allTextContents())
        assert.equal(marked.toLowerCase(), 'bluetooth');
      const before = await counts();
      await page
        .getByRole('button', { name: /^Not a duplicate/ })
        .first()
        .click();
      await page.locator('button[aria-pressed=true]').waitFor();
      const then = await counts();
      assert.deepEqual([then.total - before.total, then.relevant - before.relevant], [1, 0]);
    });
  });

  it('copies a command for a shell that does the same', async () => {
    await withPage(browser, { permissions: ['clipboard-read', 'clipboard-write'] }, async (page) => {
      await page.goto(server.url);
      await page.getByLabel('Question').fill("it's slow");
      await page.getByRole('button', { name: /^Copy as curl/ }).click();
      await page.getByText('Copied').waitFor();
      const copied = await page.evaluate('navigator.clipboard.readText()');
      assert.equal(
        copied,
        `curl '${server.url}/search' -H 'Content-Type: application/json' -d '{"query":"it'\\''s slow","k":10,"mode":"dense"}'`,
      );
    });
  });

  it('says what to do without a question, and when words find nothing', async () => {
    await withPage(browser, {}, async (page) => {
      await page.goto(server.url);
      await page.getByText('Type a question').waitFor();
      await page.getByLabel('Search by').selectOption('lexical');
      await page.getByLabel('Question').fill('xyzzyx');
      await page.getByText('Search by meaning').waitFor();
    });
  });

  it('searches with whatever model is live, and asks anew what that is when another one answered', async () => {
    await withPage(browser, {}, async (page) => {
      let live = {};
      for (const route of ['info', 'search'])
        await page.route(`${server.url}/${route}`, async (asked) => {
          const response = await asked.fetch();
          await asked.fulfill({ response, json: { ...(await response.json()), ...live } });
        });
      const ask = async (text: string, by: string): Promise<void> => {
        const sent = page.waitForRequest('**/search');
        await page.getByLabel('Question').fill(text);
        assert.equal((await sent).postDataJSON().model, undefined);
        const found = page.getByRole('region', { name: `Found by ${by}` });
        await found.locator('.hit').first().waitFor();
      };
      await page.goto(server.url);
      await ask('bluetooth', 'default');
      live = { model: 'finetuned-1', model_id: 'finetuned-1', generation: 2, fingerprint: 'another' };
      await ask('wallpaper', 'finetuned-1');
      await page.getByText('finetuned-1 can run in this page').waitFor({ state: 'attached' });
    });
  });

  it('sees by itself that an empty collection is none any more', async () => {
    await withPage(browser, {}, async (page) => {
      let empty = { documents: 0 } as object;
      await page.route('**/info', async (asked) => {
        const response = await asked.fetch();
        await asked.fulfill({ response, json: { ...(await response.json()), ...empty } });
      });
      await page.goto(server.url);
      await page.getByText('The collection is empty').waitFor();
      empty = {};
      await page.getByText('Type a question').waitFor();
      assert.equal(await page.getByText('The collection is empty').count(), 0);
    });
  });

  for (const colorScheme of ['light', 'dark'] as const)
    it(`is accessible and fits a phone (${colorScheme})`, async () => {
      await withPage(browser, { ...PHONE, colorScheme }, async (page) => {
        await page.goto(server.url);
        await page.getByText('Type a question').waitFor();
        await assertAccessible(page);
        await page.getByLabel('Question').fill('wallpaper');
        await page.locator('.hit').first().waitFor();
        await assertAccessible(page);
        await assertFits(page);
      });
    });

  it('changes its colours by a switch, and remembers', async () => {
    await withPage(browser, { colorScheme: 'light' }, async (page) => {
      const ground = (): Promise<unknown> => page.evaluate('getComputedStyle(document.body).backgroundColor');
      await page.goto(server.url);
      const toggle = page.getByRole('button', { name: /^Colours/ });
      const light = await ground();
      await toggle.click();
      await toggle.click();
      const dark = await ground();
      assert.notEqual(dark, light);
      await page.reload();
      await toggle.waitFor();
      assert.equal(await ground(), dark);
    });
  });

  it('goes on by itself when the server was killed and is back, in two tabs', async () => {
    await withPage(browser, {}, async (one) => {
      const two = await one.context().newPage();
      for (const page of [one, two]) {
        await page.goto(server.url);
        await page.getByText('Type a question').waitFor();
      }
      await server.kill();
      for (const page of [one, two]) {
        await page.getByLabel('Question').fill('bluetooth mouse');
        await page.getByText('The server does not answer').waitFor();
      }
      await server.restart();
      for (const page of [one, two]) await page.locator('.hit').first().waitFor();
    });
  });
});

describe('the pages of a server with keys', { skip: noBrowser }, () => {
  let browser: Browser;
  let server: PageServer;
  before(async () => {
    server = await startPageServer('--api-key', 'read:look', '--api-key', 'write:tell');
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it('ask for one, again when it was wrong, and for another one where it may not do what is wanted', async () => {
    await withPage(browser, {}, async (page) => {
      await page.goto(server.url);
      const dialog = page.getByRole('dialog');
      await dialog.waitFor();
      await assertAccessible(page);
      for (const [key, answer] of [
        ['wrong', dialog.getByText('unknown')],
        ['look', page.getByText('Type a question')],
      ] as const) {
        await dialog.getByLabel('API key').fill(key);
        await page.keyboard.press('Enter');
        await answer.waitFor();
      }
      await page.getByLabel('Question').fill('wallpaper');
      await page
        .getByRole('button', { name: /^Duplicate/ })
        .first()
        .click();
      await dialog.getByText('expected an API key that may write').waitFor();
      await page.keyboard.insertText('tell');
      await page.keyboard.press('Enter');
      await dialog.waitFor({ state: 'hidden' });
      await page
        .getByRole('button', { name: /^Duplicate/ })
        .first()
        .click();
      await page.locator('button[aria-pressed=true]').waitFor();
    });
  });

  it('refuse a key that no request could bring', async () => {
    await withPage(browser, {}, async (page) => {
      await page.goto(server.url);
      const dialog = page.getByRole('dialog');
      for (const [key, named] of [
        ['“look”', 'U+201C'],
        ['look\u200b', 'U+200B'],
      ]) {
        await dialog.getByLabel('API key').fill(key);
        await page.keyboard.press('Enter');
        await dialog.getByText(named).waitFor();
        await assertAccessible(page);
      }
      await dialog.getByLabel('API key').fill('look');
      await page.keyboard.press('Enter');
      await page.getByText('Type a question').waitFor();
    });
  });
});
