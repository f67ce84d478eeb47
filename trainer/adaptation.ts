import { UserError } from '../base/errors.js';

/** Texts that an adaptation is fitted on: with half of them the metrics are nearly the same (docs/RESULTS.md). */
export const FITTED_TEXTS = 16_384;

/** What is fitted behind the pooling, without training. */
export interface Adaptation {
  /** Take the mean of the texts' vectors away (Mu and Viswanath 2018). */
  center: boolean;
  /**
   * How far the directions are brought to the same variance: 1 wholly (Su et al. 2021, arXiv 2103.15316, eq. 5), less
   * to a power of it.
   */
  whiten?: number;
  /** Keep so many dimensions: the directions in which the vectors lie most (Su et al. 2021, section 3.3). */
  pca?: number;
}

/** The parts of an adaptation, each with what may stand behind its name. */
const PARTS: Readonly<Record<string, RegExp>> = {
  center: /^center$/,
  whiten: /^whiten(?:=(0?\.\d+|1))?$/,
  pca: /^pca=([1-9]\d*)$/,
};

/**
 * @param text `center`, `whiten`, `whiten=0.5`, `pca=192`, or several with commas between
 * @throws UserError `usage`
 */
export function parseAdaptation(text: string): Adaptation {
  const adaptation: Adaptation = { center: false };
  const seen = new Set<string>();
  for (const part of text.split(',')) {
    const name = Object.keys(PARTS).find((key) => PARTS[key].test(part));
    const [, value] = (name && PARTS[name].exec(part)) || [];
    if (name === undefined || seen.has(name) || Number(value) === 0)
      throw new UserError(
        'usage',
        `--adapt: expected center, whiten, whiten=SHARE, pca=N or several with commas between, found "${text}"`,
      );
    seen.add(name);
    if (name === 'center') adaptation.center = true;
    else if (name === 'whiten') adaptation.whiten = Number(value ?? 1);
    else adaptation.pca = Number(value);
  }
  return adaptation;
}

/**
 * @param d length of the encoder's vectors
 * @param n different texts to fit on
 * @throws UserError `usage` for more dimensions than the vectors have, or than the texts can tell
 */
export function checkAdaptation({ pca = 0, whiten = 0 }: Adaptation, d: number, n: number): void {
  if (whiten > 0 && d >= Math.min(n, FITTED_TEXTS))
    throw new UserError(
      'usage',
      `--adapt whiten: expected more different texts than the encoder has dimensions, ${d}, found ${n}`,
    );
  if (pca > d)
    throw new UserError('usage', `--adapt pca: expected at most the encoder's ${d} dimensions, found ${pca}`);
  if (pca >= Math.min(n, FITTED_TEXTS))
    throw new UserError('usage', `--adapt pca=${pca}: expected more than ${pca} different texts, found ${n}`);
}

/** As {@link parseAdaptation} reads it. */
export function adaptationText({ center, whiten, pca }: Adaptation): string {
  return [
    ...(center ? ['center'] : []),
    ...(whiten === undefined ? [] : [whiten === 1 ? 'whiten' : `whiten=${whiten}`]),
    ...(pca === undefined ? [] : [`pca=${pca}`]),
  ].join();
}
