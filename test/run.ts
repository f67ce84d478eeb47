import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Runs every *.test.js under this folder, or those whose path contains one of the arguments. */
const here = path.dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(here, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.js'))
  .filter((file) => wanted.length === 0 || wanted.some((word) => file.includes(word)))
  .sort()
  .map((file) => path.join(here, file));
if (files.length === 0) {
  console.error(`no test file matches ${wanted.join(', ')}`);
  process.exit(2);
}
// A test that waits for what does not come fails, instead of the run going on for ever. A file as a whole counts as well:
// the longest takes 12 minutes on a busy machine.
const TIMEOUT_MS = 30 * 60 * 1000;
const options = ['--test', '--test-concurrency=2', `--test-timeout=${TIMEOUT_MS}`];
const { status } = spawnSync(process.execPath, [...options, ...files], { stdio: 'inherit' });
process.exit(status ?? 1);
