import { mkdir } from 'node:fs/promises';
import path from 'node:path';

import { projectRoot } from '../../base/paths.js';
import { noBrowser, openBrowser, startPageServer, withPage } from './support.js';

/** Writes docs/screenshots/: each page, light and dark, on a wide window and on a phone. */
const SIZES = { wide: { width: 1200, height: 800 }, phone: { width: 375, height: 740 } } as const;

if (noBrowser) {
  console.error(noBrowser);
  process.exit(1);
}
const folder = path.join(projectRoot, 'docs', 'screenshots');
await mkdir(folder, { recursive: true });
const server = await startPageServer();
const browser = await openBrowser();
try {
  const job = await fetch(`${server.url}/finetune`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ settings: { maxSteps: 12 } }),
  });
  if (!job.ok) throw new Error(await job.text());
  for (const colorScheme of ['light', 'dark'] as const)
    for (const [size, viewport] of Object.entries(SIZES))
      await withPage(browser, { colorScheme, viewport }, async (page) => {
        const take = async (name: string): Promise<void> => {
          const file = path.join(folder, `${name}-${colorScheme}-${size}.png`);
          await page.screenshot({ path: file });
          console.log(path.relative(projectRoot, file));
        };
        await page.goto(server.url);
        await page.getByLabel('Question').fill('my usb stick does not show up');
        await page.getByLabel('Search by').selectOption('hybrid');
        await page.locator('.hit mark').first().waitFor();
        await take('search');
        await page.getByText('Run it here').click();
        await page.getByRole('button', { name: 'Load the model' }).click();
        await page.locator('output').waitFor({ timeout: 120_000 });
        await take('run-here');
        await page.goto(`${server.url}/#duplicates`);
        await page.getByRole('slider').fill('0.7');
        const { pairs } = (await (
          await fetch(`${server.url}/duplicates?threshold=0.7&limit=500`)
        ).json()) as {
          pairs: unknown[];
        };
        await page.getByText(`${pairs.length} pairs`).waitFor();
        await take('duplicates');
        await page.goto(`${server.url}/#training`);
        await page.getByText('done', { exact: true }).waitFor({ timeout: 300_000 });
        await page.locator('.u-wrap').first().waitFor();
        await take('training');
      });
} finally {
  await browser.close();
  await server.close();
}
