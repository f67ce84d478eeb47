import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';

import { readTrainingData, type TrainingData } from '../../trainer/data.js';
import { folderWith } from '../evaluation/support.js';

async function write(name: string, content: string | Uint8Array): Promise<string> {
  return path.join(await folderWith({ [name]: content }), name);
}

async function data(name: string, content: string | Uint8Array, field?: string): Promise<TrainingData> {
  return readTrainingData({ data: [await write(name, content)], pairs: [], field });
}

async function pairs(name: string, content: string | Uint8Array): Promise<TrainingData> {
  return readTrainingData({ data: [], pairs: [await write(name, content)] });
}

const firsts = ({ examples }: TrainingData): string[] => examples.map(({ first }) => first);
const couples = ({ examples }: TrainingData): string[][] =>
  examples.map(({ first, second }) => [first, second]);
const sha256 = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('--data', () => {
  it('takes a text a line from a .txt; a text is its own second', async () => {
    const { examples } = await data('titles.txt', 'black screen\nno sound\r\n');
    assert.deepEqual(examples, [
      { first: 'black screen', second: 'black screen', kind: 'text' },
      { first: 'no sound', second: 'no sound', kind: 'text' },
    ]);
  });

  it('takes the column of a .tsv that is named as a text is; quotes are ordinary characters', async () => {
    const tsv = 'id\tTitle\n1\t"sudo" fails\n2\tsay "no\n\n3\ta, b\n';
    assert.deepEqual(firsts(await data('titles.tsv', tsv)), ['"sudo" fails', 'say "no', 'a, b']);
  });

  it('takes the column of a .csv, with quotes, commas and line breaks in a text', async () => {
    const csv = 'sentence,n\r\n"He said ""no"", twice",1\r\n"two\r\nlines",2\r\nplain,3\r\n';
    assert.deepEqual(firsts(await data('a.csv', csv)), ['He said "no", twice', 'two\nlines', 'plain']);
  });

  it('says which column it took when another would have done', async () => {
    const { notes, files } = await data('a.tsv', 'question\ttitle\nq1\tt1\nq2\tt2\n');
    assert.deepEqual(notes, [`${files[0].file}: the texts are its column title; --field can name question`]);
  });

  it('takes the column that --field names', async () => {
    const tsv = 'title\tBody\nt1\tb1\nt2\tb2\n';
    const read = await data('a.tsv', tsv, 'body');
    assert.deepEqual(firsts(read), ['b1', 'b2']);
    assert.deepEqual(read.notes, []);
  });

  it('takes title and text of a .jsonl, joined by a space as evaluations do', async () => {
    const jsonl =
      '{"_id": "1", "title": "Screen", "text": "is black"}\n{"text": "no title"}\n{"title": null, "text": "none"}\n';
    assert.deepEqual(firsts(await data('corpus.jsonl', jsonl)), ['Screen is black', 'no title', 'none']);
    assert.deepEqual(firsts(await data('a.ndjson', '{"q": "one"}\n\n{"q": "two"}', 'q')), ['one', 'two']);
  });

  it('unzips what ends in .gz; the digest is of the file as it lies there', async () => {
    const zipped = gzipSync('title\none\ntwo\n');
    const read = await data('a.tsv.gz', zipped);
    assert.deepEqual(firsts(read), ['one', 'two']);
    assert.equal(read.files[0].sha256, sha256(zipped));
  });

  it('reads - as a text a line, and digests what it read', async () => {
    const script = `
      const { readTrainingData } = await import(${JSON.stringify(new URL('../../trainer/data.js', import.meta.url))});
      console.log(JSON.stringify(await readTrainingData({ data: ['-'], pairs: [] })));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.end('one\ntwo\n');
    const read = JSON.parse(await textOf(child.stdout)) as TrainingData;
    assert.deepEqual(firsts(read), ['one', 'two']);
    assert.deepEqual(read.files, [{ file: '-', kind: 'texts', count: 2, sha256: sha256('one\ntwo\n') }]);
  });
});

describe('--pairs', () => {
  const expected = [
    ['black screen', 'screen is black'],
    ['no sound', 'sound is gone'],
  ];
  const rows = 'black screen\tscreen is black\nno sound\tsound is gone\n';

  it('takes the two columns of a .tsv or .csv without a header', async () => {
    const read = await pairs('a.tsv', rows);
    assert.deepEqual(couples(read), expected);
    assert.deepEqual(
      read.examples.map(({ kind }) => kind),
      ['pair', 'pair'],
    );
    assert.deepEqual(couples(await pairs('a.csv', '"a, b",c\nd,e\n')), [
      ['a, b', 'c'],
      ['d', 'e'],
    ]);
  });

  it('leaves out a header that names two texts', async () => {
    for (const header of ['question1\tquestion2', 'Sentence_A\tSentence_B', 'query\tpositive'])
      assert.deepEqual(couples(await pairs('a.tsv', `${header}\n${rows}`)), expected);
    assert.deepEqual(couples(await pairs('a.tsv', `question1\tanswer\n${rows}`)), [
      ['question1', 'answer'],
      ...expected,
    ]);
  });

  it('takes lists and objects of a .jsonl', async () => {
    const jsonl = '["a", "b"]\n{"first": "c", "second": "d"}\n{"id": 1, "anchor": "e", "positive": "f"}\n';
    assert.deepEqual(couples(await pairs('a.jsonl', jsonl)), [
      ['a', 'b'],
      ['c', 'd'],
      ['e', 'f'],
    ]);
  });

  it('come after the texts, each file with its count and digest', async () => {
    const folder = await folderWith({ 'a.txt': 'one\ntwo\n', 'b.tsv': rows });
    const [a, b] = [path.join(folder, 'a.txt'), path.join(folder, 'b.tsv')];
    const { examples, files } = await readTrainingData({ data: [a], pairs: [b] });
    assert.deepEqual(
      examples.map(({ kind }) => kind),
      ['text', 'text', 'pair', 'pair'],
    );
    assert.deepEqual(files, [
      { file: a, kind: 'texts', count: 2, sha256: sha256('one\ntwo\n') },
      { file: b, kind: 'pairs', count: 2, sha256: sha256(rows) },
    ]);
  });
});

describe('what is left out', () => {
  it('is empty texts and exact repeats, counted in a note', async () => {
    const { examples, files, notes } = await data('a.txt', 'one\n\n  \none \ntwo\none\n');
    assert.deepEqual(
      examples.map(({ first }) => first),
      ['one', 'two'],
    );
    assert.equal(files[0].count, 2);
    assert.deepEqual(notes, [`${files[0].file}: 2 empty and 2 repeated texts left out`]);
  });

  it('is a repeat in another file, too', async () => {
    const folder = await folderWith({ 'a.txt': 'one\ntwo\n', 'b.txt': 'two\n' });
    const [a, b] = [path.join(folder, 'a.txt'), path.join(folder, 'b.txt')];
    const { files, notes } = await readTrainingData({ data: [a, b], pairs: [] });
    assert.deepEqual(
      files.map(({ count }) => count),
      [2, 0],
    );
    assert.deepEqual(notes, [`${b}: 1 repeated text left out`]);
  });

  it('is a pair with an empty side; a text in several pairs is no repeat', async () => {
    const read = await pairs('a.tsv', 'a\tb\na\t \na\tc\na\tb\n');
    assert.deepEqual(couples(read), [
      ['a', 'b'],
      ['a', 'c'],
    ]);
    assert.match(read.notes[0], /: 1 empty and 1 repeated pairs left out$/);
  });
});

describe('training data that make no sense', () => {
  const refused = async (read: Promise<unknown>, kind: string, message: RegExp): Promise<void> =>
    assert.rejects(read, (error: Error & { kind?: string }) => {
      assert.equal(error.kind, kind, error.message);
      assert.match(error.message, message);
      return true;
    });

  it('are refused with what was found: a missing file, a folder, an unknown ending', async () => {
    const folder = await folderWith({ 'a.md': 'one\n' });
    const read = (file: string): Promise<unknown> => readTrainingData({ data: [file], pairs: [] });
    await refused(read(path.join(folder, 'none.txt')), 'not-found', /none\.txt: no such file/);
    await refused(read(folder), 'invalid', /expected a file, found a folder/);
    await refused(read(path.join(folder, 'a.md')), 'invalid', /a\.md: expected a name that ends in \.txt, /);
    await refused(pairs('a.txt', 'one\n'), 'invalid', /a\.txt: expected a name that ends in \.tsv, /);
  });

  it('are refused when there are no texts, or too few to tell apart', async () => {
    await refused(data('a.txt', ''), 'empty', /a\.txt: expected texts to train on, found none/);
    await refused(data('a.tsv', 'title\n'), 'empty', /a\.tsv: expected texts to train on, found none/);
    await refused(pairs('a.csv', '\n'), 'empty', /a\.csv: expected pairs to train on, found none/);
    await refused(data('a.txt', 'one\none\n'), 'empty', /at least 2 different texts .* found 1 in .*a\.txt/);
    await refused(readTrainingData({ data: [], pairs: [] }), 'empty', /found 0 in no file/);
  });

  it('are refused with the line that is not UTF-8 text', async () => {
    for (const [name, first] of Object.entries({
      'a.txt': 'a',
      'a.csv': 'title',
      'a.tsv': 'title',
      'a.jsonl': '{"text": "a"}',
    }))
      await refused(
        data(name, Buffer.concat([Buffer.from(`${first}\n`), Buffer.from([0xff, 0xfe, 0x0a])])),
        'malformed',
        new RegExp(`${name}:2: expected UTF-8 text`),
      );
    await refused(data('a.txt.gz', 'one\n'), 'corrupt', /a\.txt\.gz: expected gzip data/);
  });

  it('are refused with the columns that were found', async () => {
    const noColumn =
      /:1: expected a header with the column title or text or .*, found the columns id, body; --field/;
    await refused(data('a.tsv', 'id\tbody\n1\tone\n'), 'malformed', noColumn);
    await refused(
      data('a.tsv', 'title\none\n', 'body'),
      'malformed',
      /the column body, found the columns title/,
    );
    await refused(
      data('a.tsv', 'title\tn\none\t1\ntwo\n'),
      'malformed',
      /a\.tsv:3: expected 2 columns, found 1/,
    );
    await refused(
      data('a.csv', 'title,n\n"o\nne",1,2\n'),
      'malformed',
      /a\.csv:3: expected 2 columns, found 3/,
    );
    await refused(data('a.csv', 'title,n\na,"b\n'), 'malformed', /a\.csv: expected CSV: .*at line 2/);
    // A third column could say that the two are no pair.
    await refused(
      pairs('a.tsv', 'a\tb\t0\n'),
      'malformed',
      /a\.tsv:1: expected 2 columns, found 3: a \| b \| 0/,
    );
  });

  it('are refused with the line that is not the JSON it should be', async () => {
    await refused(
      data('a.jsonl', '{"text": "a"}\n{"text"\n'),
      'malformed',
      /a\.jsonl:2: expected JSON a line/,
    );
    for (const line of ['{"title": "a"}', '"a"', 'null', '{"text": 1}'])
      await refused(data('a.jsonl', line), 'malformed', /a\.jsonl:1: expected {"title"\?: string, "text"/);
    await refused(
      data('a.jsonl', '{"text": "a"}', 'q'),
      'malformed',
      /expected an object with a text in "q"/,
    );
    for (const line of ['["a"]', '["a", "b", "c"]', '["a", 1]', '{"first": "a"}', '"ab"'])
      await refused(pairs('a.jsonl', line), 'malformed', /a\.jsonl:1: expected \[text, text\], or {"first"/);
  });
});
