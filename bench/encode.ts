import type { Encoder } from '../encoder/encoder.js';
import type { Precision } from '../encoder/graph-file.js';
import { openEncoder } from '../encoder/open-encoder.js';
import { figure, markdownTable } from './report.js';
import { median } from './statistics.js';

export interface EncodeBenchRow {
  model: string;
  precision: Precision;
  /** Each round's. */
  textsPerSecond: number[];
  /** Each round's, over the first model's of the same round. */
  ratios: number[];
}

const PRECISIONS: Precision[] = ['fp32', 'int8', 'quantized'];

/**
 * Texts a second of several encoders on one core, tokenizing included: all the texts by one model after the other,
 * round after round, so that what else the machine does meets all of them.
 *
 * @param models model folders or names; the first is what the others are compared with
 */
export async function benchEncode(options: {
  models: readonly string[];
  texts: readonly string[];
  rounds: number;
}): Promise<EncodeBenchRow[]> {
  const { models, texts, rounds } = options;
  const rows: EncodeBenchRow[] = [];
  for (const precision of PRECISIONS) {
    const encoders: Encoder[] = [];
    for (const model of models) encoders.push(await openEncoder(model, { precision, threads: 1 }));
    const speeds: number[][] = encoders.map(() => []);
    // The first round warms up.
    for (let round = 0; round <= rounds; round++)
      for (const [i, encoder] of encoders.entries()) {
        const begin = performance.now();
        await encoder.encode(texts);
        if (round > 0) speeds[i].push((1000 * texts.length) / (performance.now() - begin));
      }
    for (const [i, encoder] of encoders.entries()) {
      rows.push({
        model: encoder.name,
        precision,
        textsPerSecond: speeds[i],
        ratios: speeds[i].map((speed, round) => speed / speeds[0][round]),
      });
      await encoder.close();
    }
  }
  return rows;
}

/** Medians, with the lowest and highest round. */
export function encodeBenchTable(rows: readonly EncodeBenchRow[]): string {
  const spread = (values: number[]): string =>
    `${figure(median(values))} (${figure(Math.min(...values))} to ${figure(Math.max(...values))})`;
  return markdownTable(
    ['model', 'precision', 'texts/s', 'ratio to the first'],
    rows.map(({ model, precision, textsPerSecond, ratios }) => [
      model,
      precision,
      spread(textsPerSecond),
      spread(ratios),
    ]),
  );
}
