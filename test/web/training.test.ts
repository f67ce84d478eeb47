import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import type { Browser, Locator, Page } from 'playwright-core';

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

/** A training of some steps, its vectors and its verdict, on a busy machine. */
const TRAINED_MS = 900_000;

describe('the training page', { skip: noBrowser }, () => {
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

  const live = async (): Promise<string> => (await call(`${server.url}/info`)).body.model_id;
  const open = async (page: Page): Promise<void> => {
    await page.goto(`${server.url}/#training`);
    await page.getByRole('button', { name: 'Start training' }).waitFor();
  };

  it('says why a setting was refused, and starts nothing', async () => {
    await withPage(browser, {}, async (page) => {
      await open(page);
      await page.getByText('Nothing has been trained yet').waitFor();
      await page.route('**/finetune', (route) =>
        route.request().method() === 'POST'
          ? route.continue({ postData: JSON.stringify({ margin: 2 }) })
          : route.continue(),
      );
      await page.getByRole('button', { name: 'Start training' }).click();
      await page.getByText('margin: expected').waitFor();
      assert.deepEqual((await call(`${server.url}/finetune`)).body.jobs, []);
    });
  });

  it('offers the presets that the server has, its own choice first', async () => {
    const { presets } = (await call(`${server.url}/info`)).body.training;
    assert.ok(presets.includes('tsdae'));
    await withPage(browser, {}, async (page) => {
      await open(page);
      const select = page.getByLabel('Preset');
      assert.deepEqual(await select.locator('option').allTextContents(), presets);
      assert.equal(await select.inputValue(), 'surroundings');
    });
  });

  it('sends texts and pairs that are read from files, and says what is wrong with one', async () => {
    const file = (name: string, content: string | Buffer): Parameters<Locator['setInputFiles']>[0] => ({
      ...{ name, mimeType: 'text/plain' },
      buffer: Buffer.from(content),
    });
    await withPage(browser, {}, async (page) => {
      await open(page);
      await page.getByText('Train on texts and pairs of your own').click();
      const texts = page.getByLabel('A file of texts');
      const pairs = page.getByLabel('A file of pairs');
      for (const [field, wrong, told] of [
        [
          pairs,
          file('p.tsv', 'a\tb\n\nno tab\n'),
          'p.tsv: Line 3: expected two texts with a tab between them, came no tab',
        ],
        [pairs, file('p.tsv', 'a\t \n'), 'p.tsv: Line 1: expected two texts'],
        [
          texts,
          file('t.jsonl', '{"text": "a"}\n{"text": 7}'),
          't.jsonl: Line 2: expected {"title"?, "text"} as JSON',
        ],
        [texts, file('t.txt', Buffer.from([0x61, 0xff])), 't.txt: expected UTF-8'],
        [texts, file('t.txt', '\n \n'), 't.txt: Expected a line with text, found none'],
      ] as const) {
        await field.setInputFiles(wrong);
        await page.getByText(told).waitFor();
      }
      await page.getByLabel('A text a line', { exact: true }).fill('no sound');
      await texts.setInputFiles(file('t.jsonl', '{"_id": "1", "title": "wifi", "text": "is slow"}\n'));
      await page.getByText('1 texts from t.jsonl').waitFor();
      await pairs.setInputFiles(file('p.tsv', 'no sound\tsilence\r\nslow wifi\twifi is slow\r\n'));
      await page.getByText('2 pairs from p.tsv').waitFor();
      await assertAccessible(page);
      const sent = page.waitForRequest((request) => request.method() === 'POST');
      await page.route('**/finetune', (route) =>
        route.request().method() === 'POST' ? route.abort() : route.continue(),
      );
      await page.getByRole('button', { name: 'Start training' }).click();
      const body = (await sent).postDataJSON();
      assert.deepEqual(body.texts, ['no sound', 'wifi is slow']);
      assert.deepEqual(body.pairs, [
        ['no sound', 'silence'],
        ['slow wifi', 'wifi is slow'],
      ]);
      await page.getByRole('button', { name: 'Leave pairs out' }).click();
      await page.getByText('2 pairs from p.tsv').waitFor({ state: 'detached' });
      assert.equal((await call(`${server.url}/finetune`)).body.jobs.length, 0);
    });
  });

  it('activates and goes back to what the server has not loaded, not what is not judged yet, and says why not', async () => {
    await withPage(browser, {}, async (page) => {
      const generation = (id: number, state: string, job?: number): unknown => ({
        ...{ id, name: `finetuned-${id}`, state, job, served: state === 'live' },
        ...{ fingerprint: '', dimensions: 384, vectors: 250 },
      });
      const models = [
        generation(1, 'retired'),
        generation(2, 'live'),
        generation(3, 'building', 3),
        generation(4, 'building', 4),
      ];
      const jobs = [
        { id: 3, state: 'done', created: '', request: {} },
        { id: 4, state: 'judging', created: '', request: {} },
      ];
      await page.route('**/models', (route) => route.fulfill({ json: { models } }));
      await page.route('**/finetune', (route) => route.fulfill({ json: { jobs } }));
      const refused =
        (status: number, error: string): Parameters<Page['route']>[1] =>
        (route) =>
          route.fulfill({ status, json: { error } });
      await page.route('**/models/*/activate', refused(503, 'it is being loaded'));
      await page.route('**/models/rollback', refused(409, 'its model is another one'));
      await open(page);
      for (const name of ['finetuned-2 live', 'finetuned-4 building']) {
        const row = page.getByRole('row', { name });
        await row.waitFor();
        assert.equal(await row.getByRole('button').count(), 0);
      }
      await page.getByRole('button', { name: 'Activate finetuned-3' }).click();
      await page.getByText('it is being loaded').waitFor();
      await page.getByRole('button', { name: 'Activate finetuned-1' }).waitFor();
      await page.getByRole('button', { name: 'Roll back' }).click();
      await page.getByText('its model is another one').waitFor();
    });
  });

  it('waits for an answer however long it takes, and then asks again', async () => {
    await withPage(browser, {}, async (page) => {
      await page.clock.install();
      let asked = 0;
      let letGo = (): void => undefined;
      const held = new Promise<void>((resolve) => (letGo = resolve));
      await page.route('**/feedback', async (route) => {
        asked++;
        await held;
        // Given up before, if the page did not wait.
        await route.continue().catch(() => undefined);
      });
      const first = page.waitForRequest('**/feedback');
      await page.goto(`${server.url}/#training`);
      await first;
      await page.clock.runFor(20_000);
      assert.equal(asked, 1);
      letGo();
      await page.getByRole('button', { name: 'Start training' }).waitFor();
      const second = page.waitForRequest('**/feedback');
      await page.clock.runFor(20_000);
      await second;
    });
  });

  it('fine-tunes the default encoder with the keyboard, activates what came of it, and rolls back', async () => {
    await withPage(browser, {}, async (page) => {
      await open(page);
      await page.getByLabel('Steps at most').focus();
      await page.keyboard.type('3');
      await page.keyboard.press('Enter');
      const job = page.getByRole('region', { name: 'Job 1' });
      await job.getByText('Loss:').waitFor({ timeout: TRAINED_MS });
      await job.getByText('done', { exact: true }).waitFor({ timeout: TRAINED_MS });
      await job.locator('.note').waitFor();
      await assertAccessible(page);
      await page.getByRole('button', { name: 'Activate finetuned-1' }).focus();
      await page.keyboard.press('Enter');
      await page.getByRole('row', { name: /finetuned-1 live/ }).waitFor();
      assert.equal(await live(), 'finetuned-1');
      // Both models, side by side.
      await page.getByRole('link', { name: 'Search' }).click();
      await page.getByLabel('Question').fill('bluetooth');
      await page.getByLabel('Beside').selectOption('default');
      for (const name of ['default', 'finetuned-1'])
        await page
          .getByRole('region', { name: `Found by ${name}` })
          .locator('.hit')
          .first()
          .waitFor();
      // And on a map: what moved.
      await page.getByRole('link', { name: 'Map' }).click();
      const model = page.getByRole('combobox', { name: /^Model/ });
      for (const name of ['default', 'finetuned-1']) {
        await model.selectOption(name);
        await page.getByRole('button', { name: 'Make the map' }).click();
        await mapIsMade(page);
      }
      await model.selectOption('default');
      await page.getByLabel('Colour by').selectOption('cluster of finetuned-1');
      await page.getByRole('list', { name: 'Colours' }).getByRole('listitem').nth(1).waitFor();
      await model.selectOption('finetuned-1');
      assert.equal(await page.getByLabel('Colour by').inputValue(), 'cluster');
      await model.selectOption('default');
      await page.getByLabel('Colour by').selectOption('moved');
      const moved = page.getByRole('region', { name: 'Moved most between' }).locator('.hit');
      await moved.nth(9).waitFor();
      await assertAccessible(page);
      await page.getByRole('link', { name: 'Training' }).click();
      await page.getByRole('button', { name: 'Roll back' }).click();
      await page.getByRole('row', { name: /default live/ }).waitFor();
      assert.equal(await live(), 'default');
    });
  });

  it('cancels with the mouse, seen in another tab', async () => {
    await withPage(browser, PHONE, async (page) => {
      const other = await page.context().newPage();
      await open(other);
      await open(page);
      await page.getByLabel('Steps at most').fill('1000');
      await page.getByRole('button', { name: 'Start training' }).click();
      await page.getByRole('button', { name: 'Cancel' }).click();
      for (const tab of [page, other])
        await tab.getByRole('region', { name: 'Job 2' }).getByText('cancelled', { exact: true }).waitFor();
      await assertFits(page);
    });
  });

  it('goes on by itself when the server was killed and is back, and keeps what was typed', async () => {
    await withPage(browser, {}, async (page) => {
      await open(page);
      await page.getByLabel('Steps at most').fill('1000');
      await page.getByRole('button', { name: 'Start training' }).click();
      const job = page.getByRole('region', { name: 'Job 3' });
      await job.getByText(/^Step [1-9]\d* of 1000/).waitFor({ timeout: TRAINED_MS });
      await page.getByLabel('What all texts are about').fill('Ubuntu');
      await server.kill();
      await page.getByText('The server does not answer').first().waitFor();
      assert.equal(await page.getByLabel('What all texts are about').inputValue(), 'Ubuntu');
      const curve = await job.getByText('Loss:').count();
      assert.equal(curve, 1);
      await server.restart();
      await page.getByText('The server does not answer').first().waitFor({ state: 'detached' });
      await job.getByText('training', { exact: true }).waitFor({ timeout: TRAINED_MS });
      await job.getByText(/^Step [1-9]\d* of 1000/).waitFor({ timeout: TRAINED_MS });
      assert.equal(await page.getByLabel('What all texts are about').inputValue(), 'Ubuntu');
      await page.getByRole('button', { name: 'Cancel' }).click();
      await job.getByText('cancelled', { exact: true }).waitFor({ timeout: TRAINED_MS });
    });
  });
});
