import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { leastAndMeanCosine } from '../../bench/cosine.js';
import { benchEncode, encodeBenchTable } from '../../bench/encode.js';
import { runLoad } from '../../bench/load.js';
import { BenchProcess, freePort } from '../../bench/processes.js';
import { figure, markdownTable } from '../../bench/report.js';
import { runOverload } from '../../bench/overload.js';
import { median, percentile, slope } from '../../bench/statistics.js';
import { readTexts } from '../../bench/texts.js';
import { makeTinyModel } from '../support/tiny-model.js';

describe('median and percentile', () => {
  it('take the middle, whatever the order', () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 3, 2]), 2.5);
    assert.ok(Number.isNaN(median([])));
  });

  it('take the nearest rank: of 15 20 35 40 50 the 30th percentile is 20', () => {
    const values = [50, 15, 40, 20, 35];
    assert.equal(percentile(values, 0.05), 15);
    assert.equal(percentile(values, 0.3), 20);
    assert.equal(percentile(values, 0.4), 20);
    assert.equal(percentile(values, 0.5), 35);
    assert.equal(percentile(values, 1), 50);
    assert.ok(Number.isNaN(percentile([], 0.5)));
  });
});

describe('slope', () => {
  it('is that of the nearest line: 1.4 for (1, 6) (2, 5) (3, 7) (4, 10)', () => {
    const points = [
      [1, 6],
      [2, 5],
      [3, 7],
      [4, 10],
    ] as const;
    assert.ok(Math.abs(slope(points) - 1.4) < 1e-12);
  });
});

describe('more load than a server can do', () => {
  it('is sent whatever is answered, and every answer is counted', async () => {
    let requests = 0;
    const waiting: (() => void)[] = [];
    // Nothing is answered before everything is sent.
    const server = createServer((_, response) => {
      response.statusCode = [200, 429, 429, 500][requests++ % 4];
      waiting.push(() => response.end('[]'));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const load = { url, bodies: ['{}'], requestsPerSecond: 40, seconds: 1 };
    const { answers, afterwards } = await runOverload(load, async () => {
      while (waiting.length < 40) await new Promise((resolve) => setTimeout(resolve, 10));
      waiting.forEach((answer) => answer());
      return requests;
    });
    server.close();
    assert.equal(afterwards, 40);
    assert.deepEqual([answers.accepted.length, answers.refused, answers.errors], [10, 20, 10]);
    assert.match(answers.firstError ?? '', /status 500/);
  });
});

describe('cosines of rows', () => {
  it('are those of vectors of any length: 1 and 0.6', () => {
    const { least, mean } = leastAndMeanCosine(Float32Array.of(1, 0, 0, 2), Float32Array.of(5, 0, 4, 3), 2);
    assert.ok(Math.abs(least - 0.6) < 1e-12);
    assert.ok(Math.abs(mean - 0.8) < 1e-12);
  });

  it('are NaN when a number is', () => {
    const { least, mean } = leastAndMeanCosine(Float32Array.of(1, NaN, 0, 1), Float32Array.of(1, 0, 0, 1), 2);
    assert.ok(Number.isNaN(least) && Number.isNaN(mean));
  });
});

describe('a report', () => {
  it('shows three figures or more, and nothing for what is not known', () => {
    assert.deepEqual([1234.5, 123.4, 12.34, 1.234, 0, NaN].map(figure), [
      '1,235',
      '123',
      '12.3',
      '1.23',
      '0.00',
      '',
    ]);
  });

  it('aligns columns of numbers to the right', () => {
    const table = markdownTable(
      ['server', 'texts/s'],
      [
        ['a', '1,235'],
        ['b', ''],
      ],
    );
    assert.equal(table, '| server | texts/s |\n| --- | ---: |\n| a | 1,235 |\n| b |  |');
  });
});

describe('texts of a file', () => {
  let folder: string;
  before(async () => (folder = await mkdtemp(path.join(tmpdir(), 'bench-texts-'))));
  after(() => rm(folder, { recursive: true }));
  const write = async (name: string, content: string): Promise<string> => {
    const file = path.join(folder, name);
    await writeFile(file, content);
    return file;
  };

  it('are its lines, as many as asked for', async () => {
    assert.deepEqual(await readTexts(await write('a.txt', 'one\n\ntwo\nthree\n'), 2), ['one', 'two']);
  });

  it('are title and text of a BEIR corpus', async () => {
    const file = await write(
      'a.jsonl',
      '{"_id":"1","title":"","text":"one"}\n{"title":"two","text":"three"}\n',
    );
    assert.deepEqual(await readTexts(file, 10), ['one', 'two three']);
  });

  it('are refused, with file and line, when they are not there', async () => {
    const empty = await write('empty.txt', '\n\n');
    await assert.rejects(readTexts(empty, 10), {
      kind: 'empty',
      message: `${empty}: expected texts, found none`,
    });
    for (const line of ['{"title": "one"}', '[1', 'null']) {
      const file = await write('bad.jsonl', `{"text":"one"}\n${line}\n`);
      const message = `${file}:2: expected a JSON object with a string "text"`;
      await assert.rejects(readTexts(file, 10), { kind: 'malformed', message });
    }
  });
});

describe('encoders in turns', () => {
  it('are each timed in every round, in every precision, beside the first', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'bench-'));
    const models = ['one', 'two'].map((name) => path.join(folder, name));
    for (const [i, model] of models.entries()) await makeTinyModel(model, { layers: 1 + i });
    const rows = await benchEncode({ models, texts: ['wifi is slow', 'black screen'], rounds: 3 });
    assert.deepEqual(
      rows.map(({ model, precision }) => [model, precision]),
      [
        ['one', 'fp32'],
        ['two', 'fp32'],
        ['one', 'int8'],
        ['two', 'int8'],
        ['one', 'quantized'],
        ['two', 'quantized'],
      ],
    );
    for (const { textsPerSecond, ratios } of rows) {
      assert.equal(textsPerSecond.length, 3);
      assert.ok([...textsPerSecond, ...ratios].every((value) => value > 0));
    }
    assert.deepEqual(rows[0].ratios, [1, 1, 1]);
    assert.match(encodeBenchTable(rows), /\| two \| quantized \|/);
    await rm(folder, { recursive: true });
  });
});

describe('a load', () => {
  let server: Server;
  let url: string;
  const seen: string[] = [];
  let [open, most] = [0, 0];
  before(async () => {
    server = createServer((request, response) => {
      most = Math.max(most, ++open);
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        seen.push(body);
        setTimeout(() => {
          open--;
          response.statusCode = request.url === '/broken' ? 500 : 200;
          response.end('{"error":"out of order"}');
        }, 10);
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => server.close());

  it('keeps as many requests going as it is told, each body in its turn, and times them all', async () => {
    const result = await runLoad({
      url: `${url}/ok`,
      bodies: ['"a"', '"b"', '"c"'],
      concurrency: 3,
      seconds: 0.3,
    });
    assert.equal(most, 3);
    assert.equal(result.errors, 0);
    assert.equal(result.milliseconds.length, seen.length);
    assert.ok(result.milliseconds.every((ms) => ms >= 9));
    for (const body of ['"a"', '"b"', '"c"'])
      assert.ok(Math.abs(seen.filter((sent) => sent === body).length - seen.length / 3) <= 1);
  });

  it('counts what was refused apart, and keeps what the server said', async () => {
    const result = await runLoad({ url: `${url}/broken`, bodies: ['""'], concurrency: 1, seconds: 0.05 });
    assert.deepEqual(result.milliseconds, []);
    assert.ok(result.errors > 0);
    assert.equal(result.firstError, '500: {"error":"out of order"}');
  });
});

describe('a process of the benchmark', () => {
  it('answers a line with a line until it is stopped', async () => {
    const echo = 'process.stdin.on("data", (line) => process.stdout.write(line))';
    const child = new BenchProcess('echo', process.execPath, ['-e', echo]);
    assert.equal(await child.ask('one'), 'one');
    assert.equal(await child.ask('two'), 'two');
    await child.stop();
  });

  it('is waited for until it serves', async () => {
    const port = await freePort();
    const serve = `require("http").createServer((q, r) => r.end("ok")).listen(${port}, "127.0.0.1")`;
    const child = new BenchProcess('server', process.execPath, ['-e', serve]);
    await child.answers(`http://127.0.0.1:${port}/`);
    await child.stop();
  });

  it('is reported with what it said when it ends by itself, or is not there', async () => {
    const script = 'console.error("no module named torch"); process.exit(1)';
    const failing = new BenchProcess('peer', process.execPath, ['-e', script]);
    const message = 'peer ended before it answered: no module named torch';
    await assert.rejects(failing.ask('one'), { kind: 'unavailable', message });
    await failing.stop();
    const missing = new BenchProcess('peer', path.join(tmpdir(), 'no-such-program'), []);
    await assert.rejects(missing.answers('http://127.0.0.1:9/'), { kind: 'unavailable', message: /ENOENT/ });
    await missing.stop();
  });
});
