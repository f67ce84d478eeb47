import { once } from 'node:events';

import { Command, Option } from 'commander';

import { UserError } from '../../base/errors.js';
import { exists, writeFileAtomic } from '../../base/files.js';
import { readLines } from '../../base/lines.js';
import type { Encoder } from '../../encoder/encoder.js';
import type { Precision } from '../../encoder/graph-file.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { DEFAULT_MODEL } from '../../encoder/resolve.js';
import { bytesOf } from '../../encoder/safetensors.js';
import { findModelWithProgress } from '../find-model.js';
import { integerFrom } from '../options.js';
import { progressBar } from '../progress.js';

interface Options {
  model: string;
  data?: string;
  format: 'jsonl' | 'f32';
  out?: string;
  precision: Precision;
  threads?: number;
}

/** Texts that are in memory at a time, with their vectors. */
const WINDOW = 4096;

export function embedCommand(): Command {
  return new Command('embed')
    .description('Turn texts into vectors.')
    .argument('[text...]', 'texts; or --data')
    .option('--data <file>', 'a text file with a text a line, .gz too; - is the standard input')
    .option('--model <dir|name>', 'a model folder, or the name of a model', DEFAULT_MODEL)
    .addOption(
      new Option(
        '--format <format>',
        'jsonl: {"text", "embedding"} a line; f32: little-endian floats, row by row',
      )
        .choices(['jsonl', 'f32'])
        .default('jsonl'),
    )
    .option('--out <file>', 'write a new file instead of the standard output; f32 needs it')
    .addOption(
      new Option(
        '--precision <precision>',
        "int8 is faster and a little different; quantized is the folder's own 8-bit graph",
      )
        .choices(['fp32', 'int8', 'quantized'])
        .default('fp32'),
    )
    .addOption(
      new Option('--threads <n>', 'cores to compute with (default: all)').argParser(integerFrom(1, 1024)),
    )
    .addHelpText(
      'after',
      `
Examples:
  sentence-jepa embed "usb stick is not recognised" "wifi is slow"
  sentence-jepa embed --data titles.txt --model ./my-encoder --out titles.jsonl
  sentence-jepa embed --data titles.txt --format f32 --out titles.f32
  zcat titles.gz | sentence-jepa embed --data - | head -1`,
    )
    .action(embed);
}

async function embed(texts: string[], options: Options): Promise<void> {
  const { data, format, out, model, precision, threads } = options;
  if (texts.length > 0 === (data !== undefined))
    throw new UserError('usage', 'expected texts, or --data FILE, and not both');
  if (format === 'f32' && out === undefined)
    throw new UserError('usage', '--format f32: expected --out FILE; binary data are not for a terminal');
  if (out !== undefined && (await exists(out)))
    throw new UserError('exists', `${out}: already there; name another file or remove it first`);
  await findModelWithProgress(model);
  const encoder = await openEncoder(model, { precision, threads });
  try {
    const chunks = rows(encoder, data === undefined ? argumentTexts(texts) : fileTexts(data), format);
    if (out !== undefined) await writeFileAtomic(out, chunks);
    else
      for await (const chunk of chunks) if (!process.stdout.write(chunk)) await once(process.stdout, 'drain');
  } finally {
    await encoder.close();
  }
}

async function* argumentTexts(texts: string[]): AsyncGenerator<string> {
  for (const [i, text] of texts.entries()) {
    if (text.trim() === '')
      throw new UserError('empty', `text ${i + 1}: expected a text, found an empty one`);
    yield text;
  }
}

async function* fileTexts(file: string): AsyncGenerator<string> {
  let count = 0;
  for await (const { text, number } of readLines(file)) {
    // Leaving it out would move every row behind it.
    if (text.trim() === '')
      throw new UserError('empty', `${file}:${number}: expected a text, found an empty line`);
    count++;
    yield text;
  }
  if (count === 0) throw new UserError('empty', `${file}: expected a text a line, found an empty file`);
}

/** The output's bytes, a window of texts at a time. */
async function* rows(
  encoder: Encoder,
  texts: AsyncIterable<string>,
  format: Options['format'],
): AsyncGenerator<Uint8Array> {
  const { dimensions } = encoder;
  let before = 0;
  for await (const window of windows(texts)) {
    const bar = progressBar(`embedding from ${before + 1}`, 'texts');
    const vectors = await encoder.encode(window, { onProgress: bar.update }).finally(bar.stop);
    before += window.length;
    if (format === 'f32') yield bytesOf(vectors);
    else
      yield Buffer.from(
        window
          .map((text, i) => {
            const embedding = [...vectors.subarray(i * dimensions, (i + 1) * dimensions)];
            return JSON.stringify({ text, embedding }) + '\n';
          })
          .join(''),
      );
  }
  console.error(`${before} x ${dimensions} by ${encoder.name}`);
}

async function* windows(texts: AsyncIterable<string>): AsyncGenerator<string[]> {
  let window: string[] = [];
  for await (const text of texts) {
    window.push(text);
    if (window.length === WINDOW) {
      yield window;
      window = [];
    }
  }
  if (window.length > 0) yield window;
}
