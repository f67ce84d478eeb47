import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Random } from '../../base/random.js';
import { Server, ServerRefused } from '../support/server.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { check } from './check.js';
import { write } from './client.js';
import { damage, restoreFolder, saveFolder } from './damage.js';
import { Journal } from './journal.js';

export interface TortureOptions {
  rounds: number;
  seed: number;
  /** Every so many rounds the files are damaged while the server is down; 0: never. */
  damageEvery: number;
  say(line: string): void;
}

export interface TortureResult {
  rounds: number;
  acknowledged: number;
  /** Damage rounds, by how they ended. */
  refused: number;
  survived: number;
  violations: string[];
}

const WRITERS = 4;
/** So that the graph, its file and its manifest take part. */
const EXACT_UP_TO = 100;
const LONGEST_RUN_MS = 1500;

/**
 * Kills a server again and again while it is written to, and compares what it holds with what its clients know. In
 * damage rounds the files are damaged before it starts again: it may refuse, or go on with nothing wrong.
 */
export async function torture({ rounds, seed, damageEvery, say }: TortureOptions): Promise<TortureResult> {
  const folder = await mkdtemp(path.join(tmpdir(), 'torture-'));
  const model = path.join(folder, 'model');
  const dataDir = path.join(folder, 'data');
  const result: TortureResult = { rounds, acknowledged: 0, refused: 0, survived: 0, violations: [] };
  const random = new Random(seed);
  const journal = new Journal();
  const start = (): Promise<Server> =>
    Server.start({ model, dataDir, exactUpTo: EXACT_UP_TO, logLevel: 'info' });
  let server: Server | undefined;
  try {
    await makeTinyModel(model);
    await mkdir(dataDir);
    for (let round = 1; round <= rounds; round++) {
      const began = performance.now();
      server = await start();
      const { url } = server;
      const writers = Array.from({ length: WRITERS }, (_, w) =>
        write(url, `w${w}`, new Random(seed, round, w), journal),
      );
      await sleep(random.below(LONGEST_RUN_MS));
      // Now and then it stops in order: then there is no log, and all of it is in the database and the graph's file.
      const isKill = random.below(4) > 0;
      await server.kill(isKill ? 'SIGKILL' : 'SIGTERM');
      await Promise.all(writers);
      let line = `round ${round}: ${isKill ? 'kill -9' : 'stop'} after ${journal.acknowledgements} writes`;

      if (damageEvery > 0 && round % damageEvery === 0) {
        const saved = await saveFolder(dataDir);
        const what = await damage(dataDir, random);
        line += `, ${what}: `;
        try {
          server = await start();
          const wrong = await check(server.url, journal.copy(), random);
          result.violations.push(...wrong.map((violation) => `round ${round}, ${what}: ${violation}`));
          result.survived++;
          line += wrong.length > 0 ? 'wrong answers' : 'served rightly';
          await server.kill('SIGKILL');
        } catch (error) {
          if (!(error instanceof ServerRefused)) throw error;
          result.refused++;
          line += `refused (${error.reason.slice(0, 90)})`;
          if (error.code !== 1 || error.reason === '')
            result.violations.push(`round ${round}, ${what}: no clear refusal: ${error.message}`);
        }
        await restoreFolder(saved, dataDir);
      }
      server = await start();
      const violations = await check(server.url, journal, random);
      await server.kill(random.below(2) === 0 ? 'SIGKILL' : 'SIGTERM');
      result.violations.push(...violations.map((violation) => `round ${round}: ${violation}`));
      say(`${line}; ${violations.length} violations, ${Math.round(performance.now() - began)} ms`);
    }
  } finally {
    await server?.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  }
  return { ...result, acknowledged: journal.acknowledgements };
}
