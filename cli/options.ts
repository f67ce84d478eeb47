import { InvalidArgumentError, Option } from 'commander';

import { defaults } from '../server/config.js';

/** Reads a number of a range. */
export function numberFrom(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= least && value <= most))
      throw new InvalidArgumentError(`Expected a number from ${least} to ${most}.`);
    return value;
  };
}

/** Reads a whole number of a range. */
export function integerFrom(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isInteger(value) || value < least || value > most)
      throw new InvalidArgumentError(`Expected a whole number from ${least} to ${most}.`);
    return value;
  };
}

/** Reads an address that begins with http:// or https://. */
export function httpUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw new InvalidArgumentError('Expected an address such as http://localhost:4318.');
  return url;
}

/** As `serve` has it. */
export function dataDirOption(): Option {
  return new Option('--data-dir <dir>', 'where the collection is kept')
    .env('SENTENCE_JEPA_DATA_DIR')
    .default(defaults.dataDir);
}
