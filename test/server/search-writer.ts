import { writeSync } from 'node:fs';

import { Random } from '../../base/random.js';
import { openCollection } from '../../server/search/open-collection.js';
import { fakeInference } from './fake-inference.js';

/**
 * A process made to be killed: four lanes write and delete documents of their own for ever, and say so
 * on stdout, before ("try") and after ("ack"). `node search-writer.js DIR SEED`, or `... DIR SEED reembed`.
 * With `KIND LINES` behind `write` or `reembed` it kills itself, as kill -9 does, when it has said so many lines that
 * begin so: whoever reads them may come too late for what it must not get to.
 */
const [dataDir, seed, mode, kind, lines] = process.argv.slice(2);
let left = Number(lines);
const say = (line: string): void => {
  writeSync(1, `${line}\n`);
  if (kind !== undefined && line.startsWith(kind) && --left === 0) process.kill(process.pid, 'SIGKILL');
};
const lanes = 4;

const collection = await openCollection({
  dataDir,
  inference: fakeInference({ seed: mode === 'reembed' ? 'b' : 'a' }),
  reembed: mode === 'reembed',
  onProgress: (done, total) => say(`embedded ${done} ${total}`),
  exactUpTo: 100,
});
say('open');

async function lane(name: number): Promise<void> {
  const random = new Random(Number(seed), name);
  for (let i = 0; ; i++) {
    const ids = Array.from(new Set(Array.from({ length: 1 + random.below(8) }, () => random.below(150)))).map(
      (n) => `${name}-${n}`,
    );
    if (random.below(4) === 0) {
      say(`try del ${ids[0]}`);
      await collection.delete(ids[0]);
      say(`ack del ${ids[0]}`);
    } else {
      const text = `word${random.below(50)} word${random.below(50)} run${seed} write${i}`;
      say(`try put ${ids.join(',')} ${text}`);
      await collection.upsert(ids.map((id) => ({ id, text })));
      say(`ack put ${ids.join(',')} ${text}`);
    }
  }
}
if (mode !== 'reembed') await Promise.all(Array.from({ length: lanes }, (_, name) => lane(name)));
else await collection.close();
