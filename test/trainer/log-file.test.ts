import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';

import { LogFile, readRun } from '../../trainer/log-file.js';
import type { LogEntry } from '../../trainer/run-log.js';
import { folderWith } from '../evaluation/support.js';
import { adaptEntry, evaluationEntry, finishedRun, startEntry, stepEntry } from './support.js';

const { end } = finishedRun();
const entries: LogEntry[] = [
  startEntry(),
  evaluationEntry(0, { 'sts:a.csv': 0.8 }),
  stepEntry(1),
  stepEntry(2),
  evaluationEntry(2, { 'sts:a.csv': 0.81 }),
  stepEntry(3),
  end!,
];
const lines = (list: LogEntry[]): string => list.map((entry) => JSON.stringify(entry) + '\n').join('');

async function logOf(content: string): Promise<string> {
  return path.join(await folderWith({ 'log.jsonl': content }), 'log.jsonl');
}

describe('a log', () => {
  it('has an entry a line, there as soon as it is written, and reads as the run', async () => {
    const file = path.join(await folderWith({}), 'run', 'log.jsonl');
    const log = await LogFile.open(file);
    for (const [i, entry] of entries.entries()) {
      await log.write(entry);
      assert.equal(await readFile(file, 'utf8'), lines(entries.slice(0, i + 1)));
    }
    await log.close();
    assert.deepEqual(await readRun(file), {
      start: entries[0],
      steps: [entries[2], entries[3], entries[5]],
      evaluations: [entries[1], entries[4]],
      end,
    });
  });

  it('starts afresh over an older one', async () => {
    const file = await logOf(lines(entries));
    const log = await LogFile.open(file);
    await log.write(entries[0]);
    await log.close();
    assert.equal(await readFile(file, 'utf8'), lines(entries.slice(0, 1)));
  });

  it('says that the disk is full', { skip: process.platform !== 'linux' }, async () => {
    const log = await LogFile.open('/dev/full');
    await assert.rejects(log.write(stepEntry(1)), { kind: 'unavailable', message: /the disk is full/ });
    await log.close();
  });

  it('says that it can not be written', async () => {
    await assert.rejects(LogFile.open(await folderWith({})), { kind: 'invalid', message: /expected a file/ });
  });
});

describe('a resumed log', () => {
  it('keeps the steps and evaluations through the checkpoint and goes on after them', async () => {
    const file = await logOf(lines(entries));
    const log = await LogFile.open(file, { keepThrough: 2 });
    await log.write(stepEntry(3, { loss: 3 }));
    await log.close();
    assert.equal(await readFile(file, 'utf8'), lines([...entries.slice(0, 5), stepEntry(3, { loss: 3 })]));
    assert.deepEqual(await readdir(path.dirname(file)), ['log.jsonl']);
  });

  it('drops the adaptation, which is fitted again behind the last step', async () => {
    const file = await logOf(lines([...entries.slice(0, 4), adaptEntry(0.45)]));
    assert.deepEqual((await readRun(file)).adapted, adaptEntry(0.45));
    await (await LogFile.open(file, { keepThrough: 2 })).close();
    assert.equal(await readFile(file, 'utf8'), lines(entries.slice(0, 4)));
  });

  it('drops a line that was cut short before it appends', async () => {
    const file = await logOf(lines(entries.slice(0, 4)) + '{"type":"step","st');
    const log = await LogFile.open(file, { keepThrough: 2 });
    await log.write(stepEntry(3));
    await log.close();
    assert.equal(await readFile(file, 'utf8'), lines([...entries.slice(0, 4), stepEntry(3)]));
  });

  it('is refused, and left as it is, when the log is missing or is none', async () => {
    const file = await logOf('not a log\n');
    await assert.rejects(LogFile.open(file, { keepThrough: 2 }), { kind: 'corrupt' });
    assert.equal(await readFile(file, 'utf8'), 'not a log\n');
    await assert.rejects(LogFile.open(`${file}.none`, { keepThrough: 2 }), { kind: 'not-found' });
  });
});

describe('reading a log', () => {
  it('passes over a last line cut short at any byte', async () => {
    const file = await logOf('');
    const whole = lines([startEntry(), stepEntry(1)]);
    const last = lines([stepEntry(2, { terms: { größe: 1 } })]);
    const bytes = Buffer.from(last);
    for (let cut = 0; cut < bytes.length - 1; cut++) {
      await writeFile(file, Buffer.concat([Buffer.from(whole), bytes.subarray(0, cut)]));
      assert.deepEqual((await readRun(file)).steps, [stepEntry(1)], `cut after byte ${cut}`);
    }
    await writeFile(file, (whole + last).slice(0, -1));
    assert.equal((await readRun(file)).steps.length, 2);
  });

  it('names the line of anything else that is no entry', async () => {
    const broken = async (content: string, message: RegExp): Promise<void> =>
      assert.rejects(readRun(await logOf(content)), (error: Error & { kind?: string }) => {
        assert.equal(error.kind, 'corrupt');
        assert.match(error.message, message);
        return true;
      });
    const start = lines([startEntry()]);
    await broken(`${start}{"type":"st\n${lines([stepEntry(2)])}`, /log\.jsonl:2: expected a log entry/);
    await broken(`${start}{"type":"st\n`, /log\.jsonl:2: .* found {"type":"st/);
    await broken(`${start}\n${lines([stepEntry(1)])}`, /log\.jsonl:2: .* found an empty line/);
    for (const line of ['{"type":"other"}', '5', 'null', '[]'])
      await broken(`${start}${line}\n`, /log\.jsonl:2: expected a log entry/);
    await broken('', /log\.jsonl:1: expected the start of a run, found nothing/);
    await broken(lines([stepEntry(1)]), /log\.jsonl:1: expected the start of a run, found step/);
  });
});
