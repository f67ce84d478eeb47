import path from 'node:path';

import { Command } from 'commander';

import { UserError } from '../../base/errors.js';
import { writeCompactFolder } from '../../encoder/compact.js';
import type { DenseLayer } from '../../encoder/dense.js';
import { fingerprintsOf } from '../../encoder/fingerprints.js';
import { getModel } from '../../encoder/get-model.js';
import {
  dimensionsOf,
  loadWeights,
  type ModelFolder,
  openModelFolder,
  readOrigin,
  writeModelFolder,
} from '../../encoder/model-folder.js';
import { loadTokenizer } from '../../encoder/tokenizer.js';
import { bertTensors } from '../../encoder/bert.js';
import { countOf } from '../../encoder/safetensors.js';
import { resolveModel } from '../../encoder/resolve.js';
import { verifyModel, type Verification } from '../../encoder/verify.js';
import { withFetchBars } from '../find-model.js';
import { modelStoreOption } from '../options.js';
import { progressBars } from '../progress.js';

interface JsonOption {
  json?: boolean;
}

export function modelCommand(): Command {
  return new Command('model')
    .description('Get, look at, check, export and publish encoders.')
    .addCommand(getCommand())
    .addCommand(infoCommand())
    .addCommand(verifyCommand())
    .addCommand(exportCommand())
    .addCommand(publishCommand())
    .addHelpText(
      'after',
      `
Examples:
  sentence-jepa model get all-MiniLM-L6-v2
  sentence-jepa model info all-MiniLM-L6-v2
  sentence-jepa model verify ./my-encoder
  sentence-jepa model export all-MiniLM-L6-v2 --out ./minilm
  sentence-jepa model publish ./my-encoder --model-store s3://models/encoders`,
    );
}

function getCommand(): Command {
  return new Command('get')
    .description('Fetch an encoder into the cache folder, unless it is there.')
    .argument('<name>', 'all-MiniLM-L6-v2, or ORGANIZATION/NAME as on the Hugging Face Hub')
    .addHelpText(
      'after',
      `
Prints the folder. SENTENCE_JEPA_CACHE names another cache folder.

Examples:
  sentence-jepa model get all-MiniLM-L6-v2
  sentence-jepa model get Xenova/bge-small-en-v1.5`,
    )
    .action(async (name: string) => {
      const got = await withFetchBars((onProgress) => getModel(name, { onProgress }));
      console.error(got.source ? `fetched ${name} from ${got.source}` : `${name} is on this machine`);
      console.log(got.dir);
    });
}

function infoCommand(): Command {
  return new Command('info')
    .description('What an encoder is: sizes, pooling, limits, fingerprints.')
    .argument('<dir|name>', 'a model folder, or the name of one that was fetched')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  sentence-jepa model info ./my-encoder
  sentence-jepa model info all-MiniLM-L6-v2 --json`,
    )
    .action(async (model: string, { json }: JsonOption) => {
      const info = await describe(await open(model));
      console.log(json ? JSON.stringify(info) : infoText(info));
    });
}

function verifyCommand(): Command {
  return new Command('verify')
    .description('Check an encoder whole: files, tensors, and that its graphs compute what the tensors say.')
    .argument('<dir|name>', 'a model folder, or the name of one that was fetched')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Exit code 1 when something is wrong.

Examples:
  sentence-jepa model verify ./my-encoder
  sentence-jepa model verify all-MiniLM-L6-v2 --json`,
    )
    .action(async (model: string, { json }: JsonOption) => {
      const folder = await open(model);
      const report = await verifyModel(folder);
      console.log(json ? JSON.stringify({ dir: folder.dir, ...report }) : verifyText(report));
      if (report.problems.length > 0) throw new UserError('corrupt', report.problems.join('\n'));
    });
}

function exportCommand(): Command {
  return new Command('export')
    .description(
      'Write an encoder as a complete model folder, ONNX graphs included, that this server, transformers.js, ' +
        'sentence-transformers and text-embeddings-inference load.',
    )
    .argument('<dir|name>', 'a model folder with model.safetensors, or the name of one that was fetched')
    .requiredOption('--out <dir>', 'a folder that does not exist yet')
    .option('--compact', 'matrices in 8 bits and no graphs, small enough for a repository to keep')
    .addHelpText(
      'after',
      `
This program takes a compact folder like any other, and makes a complete one of it in the cache folder on first use.
Other runtimes need that one: export the compact folder once more. Only the rounding of its matrices is lost.

Examples:
  sentence-jepa model export all-MiniLM-L6-v2 --out ./minilm
  sentence-jepa model export ./my-encoder --out ./my-encoder-compact --compact`,
    )
    .action(async (model: string, { out, compact }: { out: string; compact?: boolean }) => {
      const folder = await open(model);
      const content = { ...folder, weights: await loadWeights(folder), ...(await readOrigin(folder)) };
      await (compact ? writeCompactFolder : writeModelFolder)(out, content);
      console.log(path.resolve(out));
    });
}

function publishCommand(): Command {
  return new Command('publish')
    .description('Put an encoder where every server on a shared collection (serve --store) finds it.')
    .argument('<dir|name>', 'a model folder, or the name of one that was fetched')
    .addOption(modelStoreOption().makeOptionMandatory())
    .addHelpText(
      'after',
      `
Prints the fingerprints that it can be obtained by, one for each --precision. Servers with the same --model-store get it
when a model of that fingerprint goes live and they don't have it.

Examples:
  sentence-jepa model publish ./my-encoder --model-store /mnt/models
  AWS_REGION=eu-central-1 sentence-jepa model publish ./my-encoder --model-store s3://models/encoders`,
    )
    .action(async (model: string, { modelStore }: { modelStore: string }) => {
      const { dir, name } = await resolveModel(model, (line) => console.error(line));
      const { publish } = await import('../../server/model-store/model-store.js');
      const bars = progressBars('bytes');
      const fingerprints = await publish(dir, modelStore, {
        name: path.basename(name),
        onProgress: bars.update,
      }).finally(bars.stop);
      for (const [precision, fingerprint] of Object.entries(fingerprints))
        console.log(`${precision.padEnd(10)}${fingerprint}`);
    });
}

async function open(model: string): Promise<ModelFolder> {
  const { dir, name } = await resolveModel(model, (line) => console.error(line));
  return openModelFolder(dir, name);
}

async function describe(folder: ModelFolder): Promise<Record<string, unknown>> {
  const { name, dir, config, pooling, dense, normalize, maxTokens, lowerCase, notes, graphs } = folder;
  const fingerprints = await fingerprintsOf(folder);
  const denseShapes = dense.flatMap(({ weight, bias }) => [weight.shape, ...(bias ? [[bias.length]] : [])]);
  const shapes = [...bertTensors(config).values(), ...denseShapes];
  return {
    name,
    dir: path.resolve(dir),
    architecture: `BERT, ${config.layers} layers x ${config.hiddenSize}, ${config.heads} heads`,
    dimensions: dimensionsOf(folder),
    parameters: shapes.reduce((sum, shape) => sum + countOf(shape), 0),
    vocabulary: loadTokenizer(folder).vocabSize,
    maxTokens,
    pooling,
    dense: dense.map(describeDense).join(', ') || 'none',
    normalize,
    lowerCase,
    weights: folder.weightsFile ? 'model.safetensors' : 'ONNX only',
    graphs: Object.keys(graphs),
    fingerprints,
    notes,
  };
}

/** "384 -> 192", and the function behind it when there is one. */
function describeDense({ weight: { shape }, activation }: DenseLayer): string {
  return `${shape[1]} -> ${shape[0]}${activation === 'identity' ? '' : ` ${activation}`}`;
}

function infoText(info: Record<string, unknown>): string {
  const { fingerprints, notes, graphs, ...rest } = info as {
    fingerprints: Record<string, string>;
    notes: string[];
    graphs: string[];
  };
  const lines = Object.entries(rest).map(([key, value]) => [
    key,
    typeof value === 'number' ? value.toLocaleString('en') : String(value),
  ]);
  lines.push(['graphs', graphs.join(', ') || 'none: built on first use']);
  for (const [precision, value] of Object.entries(fingerprints)) lines.push([precision, value]);
  for (const note of notes) lines.push(['note', note]);
  return lines.map(([key, value]) => `${key.padEnd(14)}${value}`).join('\n');
}

function verifyText({ missing, tensors, fp32Cosine, quantizedCosine, problems }: Verification): string {
  const lines = [
    missing.length === 0 ? 'files        all there' : `files        not there: ${missing.join(', ')}`,
    tensors > 0 ? `tensors      ${tensors}, shapes right, all finite` : 'tensors      none: ONNX only',
  ];
  if (fp32Cosine !== undefined)
    lines.push(
      `model.onnx   cosine ${fp32Cosine.toFixed(7)} to a graph built from model.safetensors (least)`,
    );
  if (quantizedCosine)
    lines.push(
      `quantized    cosine ${quantizedCosine.mean.toFixed(5)} to fp32 (mean), ${quantizedCosine.least.toFixed(5)} (least)`,
    );
  lines.push(problems.length === 0 ? 'ok' : 'NOT ok');
  return lines.join('\n');
}
