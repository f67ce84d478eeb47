import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { inflectionOf } from '../../../trainer/views/inflection.js';
import { openTagger } from '../../../trainer/views/part-of-speech.js';
import { WordNet } from '../../../trainer/views/wordnet.js';
import { TITLES, viewsBySeed } from './support.js';

const wordnet = new WordNet('test');

describe('WordNet', () => {
  it('has words of the same meaning, of the most frequent sense', () => {
    assert.deepEqual(wordnet.related('error', 'noun', 'synonym'), ['mistake', 'fault']);
    assert.deepEqual(wordnet.related('delete', 'verb', 'synonym'), ['cancel']);
    assert.ok(wordnet.related('quick', 'adj', 'synonym').includes('speedy'));
  });

  it('has kinds of a thing, and other kinds of the same thing', () => {
    assert.ok(wordnet.related('computer', 'noun', 'hyponym').includes('home computer'));
    const siblings = wordnet.related('keyboard', 'noun', 'sibling');
    assert.ok(siblings.includes('charger'), siblings.join());
    assert.ok(!siblings.includes('keyboard'));
  });

  it('has opposites, of a word in any of its senses', () => {
    assert.deepEqual(wordnet.related('fast', 'adj', 'antonym'), ['slow']);
    assert.deepEqual(wordnet.related('enable', 'verb', 'antonym'), ['disable']);
    assert.deepEqual(wordnet.related('slowly', 'adv', 'antonym'), ['quickly']);
    assert.ok(wordnet.related('open', 'verb', 'antonym').includes('close'));
  });

  it('has others for another part of speech, and nothing for what it does not know', () => {
    assert.notDeepEqual(
      wordnet.related('file', 'noun', 'synonym'),
      wordnet.related('file', 'verb', 'synonym'),
    );
    assert.deepEqual(wordnet.related('ubnutu', 'noun', 'synonym'), []);
    assert.deepEqual(wordnet.related('error', 'verb', 'synonym'), []);
  });

  it('knows terms of two words', () => {
    assert.ok(wordnet.isTerm('hard', 'disk'));
    assert.ok(wordnet.isTerm('log', 'in'));
    assert.ok(!wordnet.isTerm('black', 'update'));
  });
});

describe('parts of speech', () => {
  const tag = openTagger('test');
  const tags = (text: string): (string | undefined)[] =>
    tag(text.split(' ')).map((tagged) => tagged && `${tagged.pos} ${tagged.lemma}`);

  it('are those of words in their sentence, with their dictionary form', () => {
    assert.deepEqual(tags('How do I share a folder?'), [
      'adv how',
      undefined,
      undefined,
      'verb share',
      undefined,
      'noun folder',
    ]);
    assert.deepEqual(tags('my share of the folders'), [
      undefined,
      'noun share',
      undefined,
      undefined,
      'noun folder',
    ]);
  });

  it('are of no names, numbers, paths, and of no word that is cut into several tokens', () => {
    const [, name, version, , path] = tags("installing Ubuntu 13.04 can't /dev/sda1 black");
    assert.deepEqual([name, version, path], [undefined, undefined, undefined]);
    // What stands behind a word of several tokens is found in its place.
    assert.deepEqual(tags("it can't-be (slow)").at(-1), 'adj slow');
  });
});

describe('the form of a word', () => {
  const other = (
    word: string,
    pos: 'noun' | 'verb' | 'adj',
    lemma: string,
    into: string,
  ): string | undefined => inflectionOf(word, { pos, lemma })?.(into);

  it('is given to the word in its place', () => {
    assert.equal(other('problem', 'noun', 'problem', 'trouble'), 'trouble');
    assert.equal(other('problems', 'noun', 'problem', 'query'), 'queries');
    assert.equal(other('drives', 'noun', 'drive', 'hard disk'), 'hard disks');
    assert.equal(other('boxes', 'noun', 'box', 'key'), 'keys');
    assert.equal(other('fixes', 'verb', 'fix', 'log in'), 'logs in');
    assert.equal(other('installing', 'verb', 'install', 'set up'), 'setting up');
    assert.equal(other('putting', 'verb', 'put', 'place'), 'placing');
    assert.equal(other('lying', 'verb', 'lie', 'see'), 'seeing');
  });

  it('is not known for the past and for comparatives: such a word stays', () => {
    assert.equal(other('broken', 'verb', 'break', 'bust'), undefined);
    assert.equal(other('installed', 'verb', 'install', 'put'), undefined);
    assert.equal(other('better', 'adj', 'good', 'bad'), undefined);
  });
});

describe('swaps', () => {
  const swapped = (name: string, text: string): Set<string> =>
    new Set(viewsBySeed(name, text, { swapShare: 1 }, 60).map((view) => view.text));

  it('are synonyms in the same form and case, and count', () => {
    assert.deepEqual(
      swapped('synonym', 'the errors (in java)'),
      new Set(['the mistakes (in java)', 'the faults (in java)']),
    );
    assert.ok(swapped('synonym', 'Install it').has('Set up it'));
    const [{ edits, words }] = viewsBySeed('synonym', 'how to fix a locale error', { swapShare: 1 }, 1);
    assert.equal(edits[0].kind, 'synonym');
    assert.ok(edits[0].words >= 1 && edits[0].words <= words);
  });

  it('respect the part of speech', () => {
    const nouns = new Set(wordnet.related('file', 'noun', 'synonym'));
    for (const text of swapped('synonym', 'I delete a file')) {
      const last = text.split(' ').slice(3).join(' ');
      assert.ok(last === 'file' || nouns.has(last), text);
    }
  });

  it('leave names, numbers, paths and terms alone', () => {
    for (const relation of ['synonym', 'hyponym', 'sibling', 'antonym'])
      for (const text of swapped(relation, 'Ubuntu 12.04 on my hard disk at /home/fast'))
        assert.ok(/^Ubuntu 12\.04 on my hard disk at \/home\/fast$/.test(text), text);
  });

  it('come with the probability that is asked for', () => {
    const views = viewsBySeed('antonym', 'my slow computer', { swapShare: 0.25 }, 2000);
    const share = views.filter(({ text }) => text === 'my fast computer').length / views.length;
    assert.ok(Math.abs(share - 0.25) < 4 * Math.sqrt((0.25 * 0.75) / 2000), String(share));
  });

  it('of antonyms are marked as such, so that nobody takes them for the same meaning', () => {
    const views = viewsBySeed('antonym', 'is this compatible with a slow computer', { swapShare: 1 }, 20);
    for (const { text, edits } of views) {
      assert.equal(text, 'is this incompatible with a fast computer');
      assert.deepEqual(edits, [{ kind: 'antonym', words: 2 }]);
    }
  });

  it('say how many words they changed', () => {
    for (const relation of ['synonym', 'hyponym', 'sibling', 'antonym'])
      for (const title of TITLES)
        for (const { text, edits, words } of viewsBySeed(relation, title, { swapShare: 0.5 }, 20)) {
          const before = title.trim().split(/\s+/);
          const kept = new Set(text.split(' '));
          const gone = before.filter((word) => !kept.has(word)).length;
          const said = edits.reduce((sum, edit) => sum + edit.words, 0);
          assert.ok(gone <= said && said <= words, `${title} -> ${text}: ${said}`);
          assert.ok(edits.every(({ kind }) => kind === relation));
        }
  });
});
