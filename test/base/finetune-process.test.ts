import assert from 'node:assert/strict';
import { getPriority } from 'node:os';
import { describe, it } from 'node:test';

import { runFinetune, type Ending } from '../../base/finetune-process.js';

const NODE = [process.execPath, '-e'];

/** Runs it with nothing to find on the PATH. */
async function withoutPath(run: () => Promise<Ending>): Promise<Ending> {
  const { PATH } = process.env;
  process.env.PATH = '/nowhere';
  try {
    return await run();
  } finally {
    process.env.PATH = PATH;
  }
}

describe("a training's process", () => {
  const onStart = async (): Promise<void> => undefined;

  it('tells its pid and its lines, and how it ended', async () => {
    const lines: string[] = [];
    let pid: number | undefined;
    const ending = await runFinetune(
      [...NODE, 'console.error("error: " + process.pid); process.exit(1)'],
      [],
      {
        onStart: async (started) => void (pid = started),
        onLine: (line) => lines.push(line),
      },
    );
    assert.deepEqual([lines, ending], [[`error: ${pid}`], { status: 'failed', message: String(pid) }]);
  });

  it('fails where it can not be started', async () => {
    const started: unknown[] = [];
    for (const nice of [undefined, 5]) {
      const ending = await withoutPath(() =>
        runFinetune(['no-such-program'], [], { nice, onStart: async (pid) => void started.push(pid) }),
      );
      assert.deepEqual(ending, {
        status: 'failed',
        message: 'the trainer can not be started: spawn no-such-program ENOENT',
      });
    }
    assert.deepEqual(started, []);
  });

  it('gives way to others, and runs where there is no `nice` as well', async () => {
    const priority = [...NODE, 'console.error(os.getPriority()); process.exit(1)'];
    const run = (): Promise<Ending> => runFinetune(priority, [], { nice: 5, onStart });
    const told = (priority: number): Ending => ({ status: 'failed', message: String(priority) });
    assert.deepEqual(await withoutPath(run), told(getPriority()));
    if (process.platform !== 'win32') assert.deepEqual(await run(), told(Math.min(getPriority() + 5, 19)));
  });

  it('is stopped when nobody could write down that it started', async () => {
    // Until its parent lets go of it.
    const waits = [...NODE, 'process.once("disconnect", () => process.exit(0))'];
    let pid = 0;
    const run = runFinetune(waits, [], {
      onStart: async (started) => {
        pid = started;
        throw new Error('the disk is full');
      },
    });
    await assert.rejects(run, /the disk is full/);
    while (runs(pid)) await new Promise((resolve) => setImmediate(resolve));
  });
});

function runs(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
