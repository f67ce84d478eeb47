import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { checkRecipe } from '../../cli/check-recipe.js';
import type { FinetuneRequest } from '../../server/jobs/request.js';

const asked: FinetuneRequest = { feedback: true, activate: 'manual', margin: 0 };

describe('a recipe that is asked for by request', () => {
  it('is let through when the trainer knows it', async () => {
    await checkRecipe(asked);
    // Whether there are pairs to be learned from is seen when it trains.
    await checkRecipe({ ...asked, objective: 'infonce', settings: { pairShare: 1 } });
    await checkRecipe({ ...asked, feedback: false, objective: 'distill' }, { pairs: [['a', 'b']] });
    await checkRecipe({ ...asked, preset: 'pairs', settings: { context: 'Ubuntu', batch: 32 } });
    await checkRecipe({
      ...asked,
      objective: 'vicreg',
      adapt: 'center,pca=192',
      settings: { expanderBias: true },
    });
  });

  it('is refused in the words of the request when it does not', async () => {
    const refused: [request: Partial<FinetuneRequest>, message: RegExp][] = [
      [{ preset: 'contxt' }, /^preset: expected .*context.*, found "contxt"$/],
      [{ objective: 'vicregg' }, /^objective: expected vicreg, .*, came "vicregg"$/],
      [{ preset: 'pairs', objective: 'vicreg' }, /^preset pairs: expected a recipe for objective vicreg/],
      [{ settings: { lamda: 1 } }, /^settings: expected one of .*lambda.*, found "lamda"$/],
      [{ settings: { batch: 1 } }, /^settings\.batch: expected a whole number from 2 up, found "1"$/],
      [
        { settings: { views: 'same,word-crops' } },
        /^view: expected one of .*word-crop.*, found "word-crops"$/,
      ],
      [
        { objective: 'vicreg', settings: { hardNegatives: 2 } },
        /^settings\.hardNegatives: expected objective infonce, .*, found vicreg$/,
      ],
      [
        { preset: 'simcse', teacher: 'all-MiniLM-L6-v2' },
        /^expected objective distill or settings\.keepWeight=/,
      ],
      [
        { feedback: false, objective: 'distill' },
        /^expected teacher DIR\|NAME for objective distill, found none/,
      ],
      [{ adapt: 'centre' }, /^adapt: expected center, .*, found "centre"$/],
    ];
    for (const [request, message] of refused)
      await assert.rejects(checkRecipe({ ...asked, ...request }), { kind: 'usage', message });
  });
});
