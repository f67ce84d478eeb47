import type { Random } from '../../base/random.js';
import { getJson, readAll, search } from './client.js';
import type { Journal } from './journal.js';

/** Documents that are looked for in each round by their own text; all of them would be most of a round's time. */
const SOUGHT = 60;
/** A vector's cosine with itself, in float32. */
const SAME = 0.9999;

/** Whether a collection holds what it may, and finds what it holds. Takes what it finds as what is there from now on. */
export async function check(url: string, journal: Journal, random: Random): Promise<string[]> {
  const found = await readAll(url);
  const violations = journal.violations(found);
  journal.settle(found);
  const info = await getJson<{ documents: number; index: { vectors: number } }>(`${url}/info`);
  if (info.documents !== found.size || info.index.vectors !== found.size)
    violations.push(
      `counts: ${found.size} documents are listed, /info says ${info.documents} and ${info.index.vectors} vectors`,
    );
  const documents = [...found];
  for (let i = 0; i < Math.min(SOUGHT, documents.length); i++) {
    const [id, text] = documents[random.below(documents.length)];
    for (const mode of ['dense', 'lexical']) {
      const hits = await search(url, text, mode);
      const itself = hits.find((hit) => hit.id === id);
      if (!itself || itself.text !== text || (mode === 'dense' && itself.score < SAME))
        violations.push(
          `search: ${id} is not found (${mode}) by its own text ${JSON.stringify(text)}, but ${JSON.stringify(hits[0])}`,
        );
      for (const hit of hits)
        if (found.get(hit.id) !== hit.text)
          violations.push(`search: hit ${hit.id} has text ${JSON.stringify(hit.text)}`);
    }
  }
  return violations;
}
