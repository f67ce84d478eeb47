import { mkdir } from 'node:fs/promises';
import path from 'node:path';

import type { Page } from 'playwright-core';

import { projectRoot } from '../../base/paths.js';
import { noBrowser, openBrowser, startPageServer, withPage } from './support.js';

/** Writes docs/screenshots/: each page (or those that are named), light and dark, on a wide window and on a phone. */
const SIZES = { wide: { width: 1200, height: 800 }, phone: { width: 375, height: 740 } } as const;

if (noBrowser) {
  console.error(noBrowser);
  process.exit(1);
}
const folder = path.join(projectRoot, 'docs', 'screenshots');
await mkdir(folder, { recursive: true });
const server = await startPageServer();
const browser = await openBrowser();
/** What each picture shows, in this order. */
const shows: Record<string, (page: Page) => Promise<void>> = {
  async search(page) {
    await page.goto(server.url);
    await page.getByLabel('Question').fill('my usb stick does not show up');
    await page.getByLabel('Search by').selectOption('hybrid');
    await page.locator('.hit mark').first().waitFor();
  },
  async 'run-here'(page) {
    await page.goto(server.url);
    await page.getByLabel('Question').fill('my usb stick does not show up');
    await page.getByText('Run it here').click();
    await page.getByRole('button', { name: 'Load the model' }).click();
    await page.locator('output').waitFor({ timeout: 120_000 });
  },
  async duplicates(page) {
    await page.goto(`${server.url}/#duplicates`);
    await page.getByRole('slider').fill('0.7');
    const answer = await fetch(`${server.url}/duplicates?threshold=0.7&limit=500`);
    const { pairs } = (await answer.json()) as { pairs: unknown[] };
    await page.getByText(`${pairs.length} pairs`).waitFor();
  },
  async map(page) {
    await page.goto(`${server.url}/#map`);
    const make = page.getByRole('button', { name: 'Make the map' });
    const canvas = page.locator('.map canvas');
    await make.or(canvas).waitFor();
    if (await make.isVisible()) await make.click();
    await canvas.waitFor();
    await page.getByLabel('Where would this lie?').fill('my usb stick does not show up');
    await page.getByText('near your text').waitFor();
    // A frame with what was found.
    await page.waitForTimeout(1000);
  },
  async training(page) {
    if (!(await jobs()).length) await train();
    await page.goto(`${server.url}/#training`);
    await page.getByText('done', { exact: true }).waitFor({ timeout: 300_000 });
    await page.locator('.u-wrap').first().waitFor();
  },
};
async function jobs(): Promise<unknown[]> {
  return ((await (await fetch(`${server.url}/finetune`)).json()) as { jobs: unknown[] }).jobs;
}
async function train(): Promise<void> {
  const job = await fetch(`${server.url}/finetune`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ settings: { maxSteps: 12 } }),
  });
  if (!job.ok) throw new Error(await job.text());
}
const named = process.argv.slice(2);
const pages = Object.fromEntries(
  Object.entries(shows).filter(([name]) => named.length === 0 || named.includes(name)),
);
try {
  for (const colorScheme of ['light', 'dark'] as const)
    for (const [size, viewport] of Object.entries(SIZES))
      await withPage(browser, { colorScheme, viewport }, async (page) => {
        for (const [name, show] of Object.entries(pages)) {
          await show(page);
          const file = path.join(folder, `${name}-${colorScheme}-${size}.png`);
          await page.screenshot({ path: file });
          console.log(path.relative(projectRoot, file));
        }
      });
} finally {
  await browser.close();
  await server.close();
}
