import { UserError } from '../base/errors.js';
import { openAskUbuntu } from './askubuntu.js';
import { openBeir } from './beir.js';
import type { Evaluation } from './evaluation.js';
import { openSts } from './sts.js';

/**
 * Reads an evaluation's data, so that it can run on one encoder after another.
 *
 * @param spec `beir:DIR`, `sts:FILE` or `askubuntu:DIR`
 * @param options.split which split of beir or askubuntu; test unless said
 * @throws UserError `usage` for another spec; `not-found`, `malformed`, `empty` with file and line for the data
 */
export async function openEvaluation(spec: string, options: { split?: string } = {}): Promise<Evaluation> {
  const colon = spec.indexOf(':');
  const where = spec.slice(colon + 1);
  const kind = where === '' ? '' : spec.slice(0, Math.max(colon, 0));
  if (kind === 'beir') return openBeir(spec, where, options.split);
  if (kind === 'sts') return openSts(spec, where);
  if (kind === 'askubuntu') return openAskUbuntu(spec, where, options.split);
  throw new UserError('usage', `expected beir:DIR, sts:FILE or askubuntu:DIR, found "${spec}"`);
}
