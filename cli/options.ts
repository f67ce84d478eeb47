import { InvalidArgumentError, Option } from 'commander';

import { defaults, type RateLimit } from '../server/config.js';

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

/** Reads 10, 10/s or 600/m. */
export function rateLimit(text: string): RateLimit {
  const [, requests, unit] = /^([1-9]\d{0,8})(?:\/([sm]))?$/.exec(text) ?? [];
  if (requests === undefined)
    throw new InvalidArgumentError('Expected requests a second or a minute, such as 10/s or 600/m.');
  return { requests: Number(requests), seconds: unit === 'm' ? 60 : 1 };
}

/** Reads origins that are separated by commas: https://example.org, or * for all. */
export function origins(text: string): string[] {
  const list = text.split(',').map((origin) => origin.trim());
  for (const origin of list)
    if (origin !== '*' && !(URL.canParse(origin) && new URL(origin).origin === origin))
      throw new InvalidArgumentError(
        `Expected origins such as https://example.org or http://localhost:8080, or *, separated by commas; came "${origin}".`,
      );
  return list;
}

/** Reads names of hosts, without ports, that are separated by commas. */
export function hostNames(text: string): string[] {
  const list = text.split(',').map((name) => name.trim());
  for (const name of list)
    if (!/^[\w-]+(\.[\w-]+)*$/.test(name))
      throw new InvalidArgumentError(
        `Expected names such as search.example.org, without ports, separated by commas; came "${name}".`,
      );
  return list;
}

/** As `serve` has it. */
export function dataDirOption(): Option {
  return new Option('--data-dir <dir>', 'where the collection is kept')
    .env('SENTENCE_JEPA_DATA_DIR')
    .default(defaults.dataDir);
}

/** As `serve` has it. */
export function modelStoreOption(): Option {
  return new Option(
    '--model-store <dir|url>',
    'a shared folder, or s3://BUCKET/PREFIX, where models are found by their fingerprints',
  ).env('SENTENCE_JEPA_MODEL_STORE');
}
