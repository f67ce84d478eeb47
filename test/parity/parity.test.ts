import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { readJson } from '../../base/files.js';
import { projectRoot } from '../../base/paths.js';
import { openEncoder, type OpenedEncoder } from '../../encoder/open-encoder.js';
import { loadWeights } from '../../encoder/model-folder.js';
import { DEFAULT_MODEL, resolveModel } from '../../encoder/resolve.js';
import { PRESETS } from '../../trainer/presets.js';
import { withSettings } from '../../trainer/settings.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { openTrainable } from '../../trainer/tensorflow/trainable-bert.js';
import { tensorFlowEncoder } from '../../trainer/tensorflow-encoder.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { keepEnvironment } from '../support/environment.js';

/** What reference.py wrote of titles.json. */
interface Reference {
  maxTokens: number;
  dimensions: number;
  ids: string[];
  vectors: string[];
}

const folder = path.join(projectRoot, 'test', 'parity');
const titles = await readJson<string[]>(path.join(folder, 'titles.json'));

function specifyParity(referenceFile: string, open: () => Promise<OpenedEncoder>): void {
  let reference: Reference;
  let encoder: OpenedEncoder;
  before(async () => {
    reference = await readJson<Reference>(path.join(folder, referenceFile));
    encoder = await open();
  });
  after(() => encoder.close());

  it('reads the same limits from the folder', () => {
    const { maxTokens, dimensions } = encoder;
    assert.deepEqual(
      { maxTokens, dimensions },
      { maxTokens: reference.maxTokens, dimensions: reference.dimensions },
    );
  });

  titles.forEach((title, row) => {
    it(`gives the same ids: ${JSON.stringify(title.slice(0, 60))}`, () => {
      const ids = encoder.tokenizer.tokens(title).map(({ id }) => id);
      assert.equal(ids.join(' '), reference.ids[row]);
    });
  });

  const assertSame = (vectors: Float32Array): void => {
    const d = reference.dimensions;
    titles.forEach((title, row) => {
      const bytes = Buffer.from(reference.vectors[row], 'base64');
      let [dot, ours, theirs] = [0, 0, 0];
      for (let j = 0; j < d; j++) {
        const [a, b] = [vectors[row * d + j], bytes.readFloatLE(4 * j)];
        assert.ok(Math.abs(a - b) < 1e-4, `${title.slice(0, 60)}: component ${j}: ${a}, expected ${b}`);
        dot += a * b;
        ours += a * a;
        theirs += b * b;
      }
      const cosine = dot / Math.sqrt(ours * theirs);
      assert.ok(cosine > 0.99999, `${title.slice(0, 60)}: cosine ${cosine}`);
    });
  };

  it('gives the same vectors, cosine above 0.99999 and no component further than 1e-4', async () => {
    assertSame(await encoder.encode(titles));
  });

  it("gives the same vectors in the trainer's forward pass", async () => {
    const { folder, tokenizer } = encoder;
    const { config, pooling } = folder;
    const recipe = withSettings(PRESETS.vicreg, ['expander=8', 'precision=fp32']);
    const trainable = await openTrainable({ config, weights: await loadWeights(folder), pooling, recipe });
    const trained = tensorFlowEncoder(trainable, tokenizer, folder);
    assertSame(await trained.encode(titles));
    trainable.dispose();
  });
}

for (const [what, referenceFile, options] of [
  ['a random BERT', 'tiny.json', {}],
  ['a random BERT with two Dense modules', 'tiny-dense.json', { dense: [24, 16] }],
] as const)
  describe(`${what}, against sentence-transformers`, () => {
    let scratch: string;
    const putBack = keepEnvironment('SENTENCE_JEPA_CACHE');
    specifyParity(referenceFile, async () => {
      // What setup built lies in the real cache folder.
      await loadTensorFlow();
      scratch = await mkdtemp(path.join(tmpdir(), 'parity-'));
      process.env.SENTENCE_JEPA_CACHE = path.join(scratch, 'cache');
      await makeTinyModel(path.join(scratch, 'tiny'), options);
      return openEncoder(path.join(scratch, 'tiny'), { threads: 1 });
    });
    after(async () => {
      putBack();
      await rm(scratch, { recursive: true });
    });
  });

describe('the default encoder, against sentence-transformers', () => {
  specifyParity('default.json', () => openEncoder(DEFAULT_MODEL, { threads: 1 }));
});

// 90 MB that only a machine which has fetched it holds; SENTENCE_JEPA_TEST_MODEL names a folder of it.
const model = process.env.SENTENCE_JEPA_TEST_MODEL ?? 'all-MiniLM-L6-v2';
const isHere = await resolveModel(model).then(
  () => true,
  () => false,
);
if (isHere)
  describe(`${model}, against sentence-transformers`, () => {
    specifyParity('minilm.json', () => openEncoder(model, { threads: 1 }));
  });
