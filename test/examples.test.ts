import assert from 'node:assert/strict';
import path from 'node:path';
import { before, describe, it } from 'node:test';

import { readLines } from '../base/lines.js';
import { projectRoot } from '../base/paths.js';
import { readBeirFolder, type BeirFolder } from '../evaluation/beir.js';

interface Question {
  _id: string;
  title: string;
  text: string;
  metadata: { topic: string; answered: boolean; votes: number; version?: string };
}

const folder = path.join(projectRoot, 'examples', 'askubuntu-style');

async function records<T>(name: string): Promise<T[]> {
  const found: T[] = [];
  for await (const { text } of readLines(path.join(folder, name))) found.push(JSON.parse(text) as T);
  return found;
}

describe('the example questions', () => {
  let corpus: Question[];
  let queries: { _id: string; text: string }[];
  let links: string[][];
  let beir: BeirFolder;
  before(async () => {
    corpus = await records('corpus.jsonl');
    queries = await records('queries.jsonl');
    beir = await readBeirFolder(folder, 'test');
    links = [];
    for await (const { text } of readLines(path.join(folder, 'qrels/test.tsv'))) links.push(text.split('\t'));
    links.shift();
  });

  it('are as many as their README says', () => {
    assert.deepEqual([corpus.length, queries.length], [276, 101]);
    assert.equal(queries.filter(({ _id }) => _id.startsWith('q')).length, 63);
  });

  it('have different ids and texts, none of them blank', () => {
    for (const list of [corpus, queries]) {
      assert.equal(new Set(list.map(({ _id }) => _id)).size, list.length);
      assert.equal(new Set(list.map(({ text }) => text.toLowerCase())).size, list.length);
      for (const { text } of list) assert.match(text, /\S/);
    }
  });

  it('have the metadata that filters need', () => {
    for (const { _id, metadata } of corpus) {
      assert.match(metadata.topic, /^[a-z]+$/, _id);
      assert.equal(typeof metadata.answered, 'boolean', _id);
      assert.ok(Number.isInteger(metadata.votes) && metadata.votes > 0, _id);
      if (metadata.version !== undefined) assert.match(metadata.version, /^\d\d\.\d\d$/, _id);
    }
    for (const answered of [true, false])
      assert.ok(corpus.some(({ metadata }) => metadata.answered === answered));
  });

  it('link every query to documents that exist, and none to itself', () => {
    const documents = new Set(corpus.map(({ _id }) => _id));
    for (const [query, document, score] of links) {
      assert.ok(documents.has(document), document);
      assert.notEqual(query, document);
      assert.equal(score, '1');
    }
    assert.equal(new Set(links.map(([query, document]) => `${query} ${document}`)).size, links.length);
    assert.deepEqual([...beir.queries.ids].sort(), queries.map(({ _id }) => _id).sort());
    assert.deepEqual(beir.notes, []);
  });

  it('ask what is in the corpus under the same id and text, or in words that are not there', () => {
    const textOf = new Map(corpus.map(({ _id, text }) => [_id, text]));
    const texts = new Set(corpus.map(({ text }) => text));
    for (const { _id, text } of queries)
      if (textOf.has(_id)) assert.equal(text, textOf.get(_id));
      else assert.ok(!texts.has(text), text);
  });

  it('agree on duplicates: what a query links to is linked among itself', () => {
    const linked = new Set(links.map(([query, document]) => `${query} ${document}`));
    for (const documentGains of beir.relevance)
      for (const a of documentGains.keys())
        for (const b of documentGains.keys())
          if (a !== b) assert.ok(linked.has(`${a} ${b}`) || linked.has(`${b} ${a}`), `${a} and ${b}`);
  });
});

describe('the example identifiers', () => {
  it("are linked each to the one document that has the query's, as many as their README says", async () => {
    const { documents, queries, relevance, notes } = await readBeirFolder(
      path.join(projectRoot, 'examples', 'identifiers'),
      'test',
    );
    assert.deepEqual([documents.ids.length, queries.ids.length, notes], [127, 60, []]);
    assert.equal(new Set([...documents.texts, ...queries.texts]).size, 187);
    queries.texts.forEach((text, q) => {
      assert.equal(relevance[q].size, 1);
      const [id] = relevance[q].keys();
      const words = new Set(documents.texts[documents.ids.indexOf(id)].split(/[\s,;?]+|[:.](?= |$)/));
      const shared = text
        .split(/[\s,?]+/)
        .filter((word) => /[\d._=-]|[A-Z]{3}|nomodeset/.test(word) && words.has(word));
      assert.equal(shared.length, 1, text);
    });
  });
});
