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

describe('title and body', () => {
  const sides = async (name: string, content: string, field?: string): Promise<(string | undefined)[][]> => {
    const file = await write(name, content);
    const { examples } = await readTrainingData({ data: [file], pairs: [], field, sides: true });
    return examples.map(({ first, title, body }) => [first, title, body]);
  };

  it('are kept beside the text where the data have both', async () => {
    const jsonl =
      '{"title": "Screen", "text": "is black"}\n{"text": "no title"}\n{"title": "", "text": "none"}\n';
    assert.deepEqual(await sides('a.jsonl', jsonl), [
      ['Screen is black', 'Screen', 'is black'],
      ['no title', undefined, 'no title'],
      ['none', undefined, 'none'],
    ]);
    const expected = [
      ['t1', 't1', 'b1'],
      ['t2', 't2', undefined],
    ];
    assert.deepEqual(await sides('a.tsv', 'id\tbody\ttitle\n1\tb1\tt1\n2\t \tt2\n'), expected);
    assert.deepEqual(await sides('a.csv', 'Title,Text\nt1,b1\nt2,\n'), expected);
    assert.deepEqual(await sides('a.csv', 'title,text\nt1,b1\nt2,b2\n', 'text'), [
      ['b1', 't1', 'b1'],
      ['b2', 't2', 'b2'],
    ]);
  });

  it('are not there in a file of texts, nor kept when nobody asks', async () => {
    assert.deepEqual(await sides('a.txt', 'one\ntwo\n'), [
      ['one', undefined, undefined],
      ['two', undefined, undefined],
    ]);
    const { examples } = await data('a.tsv', 'title\tbody\nt1\tb1\nt2\tb2\n');
    assert.deepEqual(examples[0], { first: 't1', second: 't1', kind: 'text' });
  });
});

describe('broken lines', () => {
  /** 200 lines, two of them broken: 1 %. */
  const among = (
    good: (i: number) => string,
    broken: [string | Buffer, string | Buffer],
    header = '',
  ): Buffer => {
    const lines: (string | Buffer)[] = Array.from({ length: 198 }, (_, i) => good(i));
    lines.splice(50, 0, broken[0]);
    lines.splice(150, 0, broken[1]);
    return Buffer.concat(
      [header, ...lines].flatMap((line, i) => [Buffer.from(line), Buffer.from(i === 0 ? '' : '\n')]),
    );
  };
  const latin1 = Buffer.from('gr\u00fc\u00dfe', 'latin1');

  it('that are few are left out, and counted in a note with the first one', async () => {
    const files: Record<string, [Buffer, RegExp]> = {
      'a.txt': [
        among((i) => `text ${i}`, [latin1, Buffer.from('a\0b')]),
        /a\.txt: 2 broken lines left out, the first is .*a\.txt:51: expected UTF-8 text, found other bytes$/,
      ],
      'a.tsv': [
        among((i) => `${i}\ttext ${i}`, ['7', latin1], 'id\ttitle\n'),
        /2 broken lines left out, the first is .*a\.tsv:52: expected 2 columns, found 1: 7$/,
      ],
      'a.csv': [
        among((i) => `${i},"text, ${i}"`, ['1,2,3', '7,say "no"'], 'id,title\n'),
        /2 broken lines left out, the first is .*a\.csv:52: expected 2 columns, found 3: 1 \| 2 \| 3$/,
      ],
      'b.csv': [
        among((i) => `${i},"text, ${i}"`, [latin1, '7,say "no"'], 'id,title\n'),
        /2 broken lines left out, the first is .*b\.csv:52: expected UTF-8 text/,
      ],
      'a.jsonl': [
        among((i) => JSON.stringify({ text: `text ${i}` }), ['{"text": "cut', '{"title": "no text"}']),
        /2 broken lines left out, the first is .*a\.jsonl:51: expected JSON a line: /,
      ],
    };
    for (const [name, [content, note]] of Object.entries(files)) {
      const read = await data(name, content);
      assert.equal(read.examples.length, 198, name);
      assert.equal(read.files[0].count, 198);
      assert.equal(read.files[0].sha256, sha256(content));
      assert.equal(read.notes.length, 1, read.notes.join());
      assert.match(read.notes[0], note);
    }
  });

  it('are left out of pairs, too', async () => {
    const tsv = await pairs(
      'a.tsv',
      among((i) => `a ${i}\tb ${i}`, ['a\tb\t0', latin1]),
    );
    assert.equal(tsv.examples.length, 198);
    assert.match(
      tsv.notes[0],
      /2 broken lines left out, the first is .*a\.tsv:51: expected 2 columns, found 3/,
    );
    const jsonl = await pairs(
      'a.jsonl',
      among((i) => `["a ${i}", "b"]`, ['["a"]', '["a", "b"']),
    );
    assert.equal(jsonl.examples.length, 198);
    assert.match(
      jsonl.notes[0],
      /2 broken lines left out, the first is .*a\.jsonl:51: expected \[text, text\]/,
    );
  });

  it('that are more than a handful and 5 % are too many: the first one is shown', async () => {
    const lines = (broken: number, of: number): string =>
      Array.from({ length: of }, (_, i) => (i < broken ? '{' : `{"text": "${i}"}`)).join('\n');
    assert.equal((await data('a.jsonl', lines(5, 20))).examples.length, 15);
    assert.equal((await data('a.jsonl', lines(10, 200))).examples.length, 190);
    await assert.rejects(data('a.jsonl', lines(11, 200)), {
      kind: 'malformed',
      message: /a\.jsonl:1: expected JSON a line: .*; 11 of 200 lines are broken, too many to leave out$/,
    });
    await assert.rejects(data('a.jsonl', lines(6, 20)), { kind: 'malformed', message: /; 6 of 20 lines / });
  });

  it('are as many as a quote that is not closed takes along', async () => {
    const csv = ['title', 'one', '"two', 'three', 'four', '"five"', 'six', 'seven'].join('\n');
    // The quote in front of "five" closes it; what stands behind that quote breaks the record.
    const read = await data('a.csv', csv);
    assert.deepEqual(firsts(read), ['one', 'six', 'seven']);
    assert.match(
      read.notes[0],
      /: 4 broken lines left out, the first is .*expected CSV: Invalid Closing Quote/,
    );
    const open = [
      'title',
      ...Array.from({ length: 30 }, (_, i) => `text ${i}`),
      '"open',
      ...Array.from({ length: 30 }, (_, i) => `more ${i}`),
    ];
    await assert.rejects(data('b.csv', open.join('\n')), {
      kind: 'malformed',
      message: /b\.csv: expected CSV: Quote Not Closed.*; 31 of 61 lines /,
    });
  });

  it('may be no header: what the columns are must be known', async () => {
    const rows = Array.from({ length: 200 }, (_, i) => `${i}\ttext ${i}\n`).join('');
    await assert.rejects(data('a.tsv', Buffer.concat([latin1, Buffer.from(`\n${rows}`)])), {
      kind: 'malformed',
      message: /a\.tsv:1: expected UTF-8 text/,
    });
    await assert.rejects(data('a.csv', `say "id",title\n${rows.replaceAll('\t', ',')}`), {
      kind: 'malformed',
      message: /a\.csv: expected CSV: Invalid Opening Quote/,
    });
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
