import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { sharedWord } from '../../trainer/shared-word.js';

/** Texts of which every `nth` has the word in front. */
function texts(word: string, nth: number, others: readonly string[]): string[] {
  return Array.from(
    { length: 100 },
    (_, i) => `${i % nth === 0 ? `${word} ` : ''}${others[i % others.length]} ${i}`,
  );
}

describe('the word that texts share', () => {
  const english = [
    'How do I get the',
    'Why can it be with the other',
    'What is this that they have',
    'Who was in it',
  ];

  it('is the most frequent one that is not common in their language, as they mostly write it', () => {
    assert.deepEqual(sharedWord(texts('Kubernetes', 4, english)), { word: 'Kubernetes', share: 0.25 });
    const german = [
      'Wie kann ich das mit dem',
      'Warum ist es nicht auf der',
      'Was ich mit einem',
      'Wo wird das',
    ];
    assert.equal(sharedWord(texts('Drucker', 2, german))?.word, 'Drucker');
    const spelled = texts('GNOME', 2, english).map((text, i) => (i % 10 === 0 ? text.toLowerCase() : text));
    assert.deepEqual(sharedWord(spelled), { word: 'GNOME', share: 0.5 });
  });

  it('counts a text once, however often it has the word', () => {
    const repeated = texts('Debian', 2, english).map((text, i) =>
      i % 3 === 0 ? `${text} mount mount mount` : text,
    );
    assert.equal(sharedWord(repeated)?.word, 'Debian');
  });

  it('is none where too few have it, of nothing but numbers, and of no text', () => {
    assert.equal(sharedWord(texts('Kubernetes', 6, ['How do I', 'What is the'])), undefined);
    assert.equal(sharedWord(texts('14.04', 1, ['1 2', '3'])), undefined);
    assert.equal(sharedWord(texts('Kubernetes', 1, english).slice(0, 9)), undefined);
    assert.equal(sharedWord([]), undefined);
  });
});
