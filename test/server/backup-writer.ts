import { writeSync } from 'node:fs';

import { openCollection } from '../../server/search/open-collection.js';
import { fakeInference } from './fake-inference.js';

/**
 * A process that writes for ever, three documents at a time: d0, d1, d2 and so on. It says on stdout how many are
 * acknowledged. `node backup-writer.js DIR FIRST`: FIRST many at once before.
 */
const [dataDir, first] = process.argv.slice(2);
const collection = await openCollection({ dataDir, inference: fakeInference() });
const documents = (from: number, n: number): { id: string; text: string }[] =>
  Array.from({ length: n }, (_, i) => ({
    id: `d${from + i}`,
    text: `question ${from + i} ${'about something '.repeat(60)}`,
  }));
let written = Number(first);
await collection.upsert(documents(0, written));
for (;;) {
  writeSync(1, `${written}\n`);
  await collection.upsert(documents(written, 3));
  written += 3;
}
