#!/usr/bin/env node
import path from 'node:path';

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';

import { UserError } from '../base/errors.js';
import { projectRoot } from '../base/paths.js';
import { findModelWithProgress } from '../cli/find-model.js';
import { integerFrom, numberFrom } from '../cli/options.js';
import { openModelFolder, type ModelFolder } from '../encoder/model-folder.js';
import { DEFAULT_MODEL } from '../encoder/resolve.js';
import { defaults } from '../server/config.js';
import { PRESETS } from '../trainer/presets.js';
import { benchEncode, encodeBenchTable } from './encode.js';
import { benchJobs, isWhole, jobsTable } from './jobs.js';
import { machine, machineLine } from './machine.js';
import { benchOverload, overloadBenchTable } from './overload.js';
import { benchParity, parityTable } from './parity.js';
import { benchSearch, searchBenchTable, type SearchBenchRow } from './search.js';
import { benchSearchHttp, searchHttpTable } from './search-http.js';
import { benchPgvector, pgvectorTable, type PgvectorOptions } from './pgvector.js';
import { benchScale, scaleTable, type ScaleOptions } from './scale.js';
import { benchServe, serveBenchTable, type Api, type RunningPeer } from './serve.js';
import { readTexts } from './texts.js';
import { benchTrain, trainBenchTable } from './train.js';
import { benchMap, mapTable, type MapOptions } from './map.js';
import { benchWeb, webTable, type WebOptions } from './web.js';

interface Options {
  model: string;
  data: string;
  texts: number;
  seconds: number;
  rounds: number;
  python?: string;
  json?: boolean;
}

interface JobsOptions extends Pick<Options, 'model' | 'data' | 'seconds' | 'json'> {
  pairs: string;
  set: string[];
  preset?: string;
  searches: number;
  writes: number;
}

interface WebCommandOptions extends Pick<Options, 'data' | 'texts' | 'json'> {
  queries: string;
}

const EXAMPLE = path.join(projectRoot, 'examples/askubuntu-style/corpus.jsonl');

const EXAMPLE_QUERIES = path.join(projectRoot, 'examples/askubuntu-style/queries.jsonl');

const program = new Command('bench')
  .description('Measure this machine: serving, search and training, beside what one would use instead.')
  .showHelpAfterError('(--help shows the options and examples)');

/** Options that benchmarks share. */
function benchmark(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--json', 'print one JSON object instead of a Markdown table');
}

function onTexts(command: Command, texts: number): Command {
  return command
    .option('--model <dir|name>', 'a model folder, or the name of a model', DEFAULT_MODEL)
    .option('--data <file>', 'texts: a text a line, or a BEIR corpus (.jsonl); .gz too', EXAMPLE)
    .option('--texts <n>', 'take the first n texts of the file', integerFrom(1, 1e6), texts);
}

function besidePython(command: Command): Command {
  return command.option(
    '--python <path>',
    'a Python with sentence-transformers, to measure it too (serving: fastapi and uvicorn as well)',
  );
}

function withPgserver(command: Command): Command {
  return command.addOption(
    new Option(
      '--pgserver <dir>',
      'start a PostgreSQL instead, which pip install --target DIR pgserver put there',
    ).env('SENTENCE_JEPA_TEST_PGSERVER'),
  );
}

function inRounds(command: Command, seconds: number): Command {
  return command
    .option('--seconds <n>', 'of each measurement', integerFrom(1, 600), seconds)
    .option('--rounds <n>', 'measure n times, taking turns; figures are medians', integerFrom(1, 100), 3);
}

inRounds(
  besidePython(onTexts(benchmark('serve', 'Texts a second and latencies of /embed, by concurrency.'), 3200)),
  5,
)
  .option(
    '--peer <name=url,api>',
    'a server that runs already, api tei or openai; may be given several times',
    peerOf,
    [],
  )
  .addHelpText(
    'after',
    `
Environment variables of "sentence-jepa serve" reach the server: SENTENCE_JEPA_PRECISION=int8 measures that.

Examples:
  npm run bench -- serve
  npm run bench -- serve --model ./my-encoder --data titles.txt --python ~/venv/bin/python
  npm run bench -- serve --peer tei=http://127.0.0.1:8080,tei`,
  )
  .action(async (options: Options & { peer: RunningPeer[] }) => {
    const { texts, model } = await inputs(options);
    const result = await benchServe({ ...options, texts, model, peers: options.peer, say });
    print(options, { model: model.name, texts: texts.length, ...result }, () => serveBenchTable(result));
  });

onTexts(benchmark('load', 'What becomes of a server that is offered more than it can do.'), 3200)
  .option('--minutes <n>', 'how long', minutesOf, 10)
  .option('--factor <n>', 'how much is offered, by what it can do', integerFrom(1, 100), 2)
  .option(
    '--max-queue-seconds <n>',
    'as of "sentence-jepa serve"',
    numberFrom(0.01, 3600),
    defaults.maxQueueSeconds,
  )
  .addHelpText(
    'after',
    `
Requests of 8 texts come at a rate, whether earlier ones are answered or not. Beside what becomes of them it tells how
the memory grows after the first minute, and how soon afterwards a lone text is embedded as fast as before.

Examples:
  npm run bench -- load
  npm run bench -- load --minutes 0.5 --factor 4`,
  )
  .action(async (options: Options & { minutes: number; factor: number; maxQueueSeconds: number }) => {
    const { texts, model } = await inputs(options);
    const result = await benchOverload({ ...options, texts, model, say });
    print(options, { model: model.name, texts: texts.length, ...result }, () => overloadBenchTable(result));
  });

benchmark('search', 'Exact search against the HNSW graph: milliseconds a query and recall.')
  .option('--sizes <n,n...>', 'vectors in the collection', numbersOf, [5_000, 20_000, 50_000])
  .option('--dimensions <n>', 'of a vector', integerFrom(2, 4096), 384)
  .addHelpText(
    'after',
    `
Examples:
  npm run bench -- search
  npm run bench -- search --sizes 10000,100000`,
  )
  .action(({ sizes, dimensions, json }: { sizes: number[]; dimensions: number; json?: boolean }) => {
    const rows: SearchBenchRow[] = [];
    for (const row of benchSearch(sizes, dimensions)) {
      say(`${row.vectors} vectors measured`);
      rows.push(row);
    }
    print({ json }, { dimensions, rows }, () => searchBenchTable(rows));
  });

inRounds(
  benchmark('search-http', 'Search over HTTP on real texts, beside hnswlib-node in a bare loop.')
    .option('--model <dir|name>', 'a model folder, or the name of a model', DEFAULT_MODEL)
    .option('--data <file...>', 'texts: a text a line, or a BEIR corpus (.jsonl); .gz too', [EXAMPLE])
    .option('--texts <n>', 'take the first n different texts of all files', integerFrom(1, 1e7), 100_000)
    .option(
      '--data-dir <dir>',
      'fill this folder, or use it as it was filled before (default: one that is removed)',
    ),
  5,
)
  .addHelpText(
    'after',
    `
500 of the texts, spread over all, are what is asked; the others are the documents. Environment variables of "sentence-jepa serve" reach
the server: SENTENCE_JEPA_PRECISION=int8 fills it several times as fast.

Examples:
  npm run bench -- search-http --data titles.txt docs.txt
  npm run bench -- search-http --data titles.txt --texts 20000 --data-dir ./bench-data`,
  )
  .action(
    async (
      options: Pick<Options, 'model' | 'texts' | 'seconds' | 'rounds' | 'json'> & {
        data: string[];
        dataDir?: string;
      },
    ) => {
      const { name } = await findModelWithProgress(options.model);
      const result = await benchSearchHttp({ ...options, texts: await differentTexts(options), say });
      print(options, { model: name, ...result }, () => searchHttpTable(result));
    },
  );

inRounds(
  withPgserver(
    benchmark(
      'scale',
      'Search by several servers on one PostgreSQL behind nginx, beside the embedded store.',
    ),
  )
    .option('--model <dir|name>', 'a model folder, or the name of a model', DEFAULT_MODEL)
    .option('--data <file...>', 'texts: a text a line, or a BEIR corpus (.jsonl); .gz too', [EXAMPLE])
    .option('--texts <n>', 'take the first n different texts of all files', integerFrom(1, 1e7), 100_000)
    .option('--servers <n,n...>', 'how many behind nginx', numbersOf, [1, 2, 3])
    .option(
      '--workers <n>',
      'how many fill the database, and embed while all servers are asked; 0: the servers fill it',
      integerFrom(0, 64),
      2,
    )
    .option('--ingest <n>', 'documents that they embed', integerFrom(1, 1e7), 5_000)
    .option('--concurrency <n>', 'requests at a time', integerFrom(1, 1000), 8)
    .option('--store <url>', 'a database of a PostgreSQL with pgvector: empty, or filled by an earlier run')
    .option(
      '--data-dir <dir>',
      'keep the embedded collection and the PostgreSQL that is started here, and use them as they were filled before (default: one that is removed)',
    ),
  5,
)
  .addHelpText(
    'after',
    `
nginx runs as examples/scale/nginx.conf says. 500 of the texts, spread over all, are what is asked; the others are the documents. Environment
variables of "sentence-jepa serve" reach the servers: SENTENCE_JEPA_PRECISION=int8 fills both stores several times as fast.

Examples:
  pip install --target ./pgserver pgserver
  npm run bench -- scale --data titles.txt docs.txt --pgserver ./pgserver --data-dir ./bench-scale
  npm run bench -- scale --data titles.txt --texts 20000 --store postgres://user:password@db/bench`,
  )
  .action(
    async (
      options: Omit<ScaleOptions, 'texts' | 'say'> & { texts: number; data: string[]; json?: boolean },
    ) => {
      const { name } = await findModelWithProgress(options.model);
      const result = await benchScale({ ...options, texts: await differentTexts(options), say });
      print(options, { model: name, ...result }, () => scaleTable(result));
    },
  );

withPgserver(
  benchmark('pgvector', 'What a vector costs PostgreSQL: bytes, making an index, a search.')
    .option('--sizes <n,n...>', 'vectors to make indexes of', numbersOf, [10_000, 20_000, 50_000])
    .option('--store <url>', 'a database that "bench scale" or a server has filled')
    .option('--data-dir <dir>', 'start the PostgreSQL that "bench scale" has kept there instead'),
)
  .addHelpText(
    'after',
    `
On one connection, and an index by one process. Vectors of the collection, moved a little, are what is searched for. Signs are compared
by this program, whatever pgvector can do. The indexes are made on a table of their own, which is dropped at the end.

Examples:
  npm run bench -- pgvector --data-dir ./bench-scale --pgserver ./pgserver
  npm run bench -- pgvector --store postgres://user:password@db/questions --sizes 10000,100000`,
  )
  .action(async (options: Omit<PgvectorOptions, 'say'> & { json?: boolean }) => {
    const result = await benchPgvector({ ...options, say });
    print(options, result, () => pgvectorTable(result));
  });

benchmark('jobs', 'A job that trains, goes live and is rolled back, while requests come at a steady rate.')
  .option('--model <dir|name>', 'the live model to begin with', DEFAULT_MODEL)
  .requiredOption('--data <file>', 'documents: a text a line, or a BEIR corpus (.jsonl); .gz too')
  .requiredOption('--pairs <file>', 'feedback: a question, a tab, the text of its document')
  .option('--set <key=value...>', 'settings of the job, as "finetune --set" takes them', [])
  .option('--preset <name>', 'its recipe')
  .option('--searches <n>', 'a second', integerFrom(1, 10_000), 20)
  .option('--writes <n>', 'a second', integerFrom(1, 10_000), 2)
  .option('--seconds <n>', 'before the job, and after it', integerFrom(1, 600), 30)
  .addHelpText(
    'after',
    `
Every answer is checked: its scores against the cosines of both models, and after it all every acknowledged document is looked
for with both. Ends with 1 when one is wrong or missing.

Examples:
  npm run bench -- jobs --data dev/corpus.jsonl --pairs duplicates.tsv --set maxSteps=200`,
  )
  .action(async (options: JobsOptions) => {
    const { set, preset, searches, writes } = options;
    await findModelWithProgress(options.model);
    const result = await benchJobs({
      ...options,
      texts: await readTexts(options.data, Infinity),
      request: {
        preset,
        settings: Object.fromEntries(set.map((each) => each.split('='))),
        activate: 'if-better',
      },
      searchesPerSecond: searches,
      writesPerSecond: writes,
      say,
    });
    print(options, { model: options.model, ...result }, () => jobsTable(result));
    if (!isWhole(result)) process.exitCode = 1;
  });

inRounds(
  besidePython(
    onTexts(benchmark('train', 'Real tokens a second of a training step: VICReg on two views.'), 3200),
  ),
  20,
)
  .option('--batch <n>', 'texts a step, two views each', integerFrom(2, 100_000), PRESETS.vicreg.batch)
  .addOption(
    new Option('--precision <which>', 'of the matrix products, in both trainers')
      .choices(['fp32', 'bf16'])
      .default('fp32'),
  )
  .option(
    '--profile',
    "time TensorFlow's kernels as well, and compare with the machine's fastest matrix product",
  )
  .addHelpText(
    'after',
    `
Views are made once, before; both trainers get the same ones, in the same order, cut off at 32 tokens, and the
preset vicreg's recipe at its highest learning rate, but with the published sketch's expander (three layers of 1,536).

Examples:
  npm run bench -- train --profile
  npm run bench -- train --precision bf16
  npm run bench -- train --model ./my-encoder --data titles.txt --python ~/venv/bin/python`,
  )
  .action(async (options: Options & { batch: number; precision: 'fp32' | 'bf16'; profile?: boolean }) => {
    const { texts, model } = await inputs(options);
    const result = await benchTrain({ ...options, texts, model, say });
    print(options, { model: model.name, texts: texts.length, ...result }, () => trainBenchTable(result));
  });

besidePython(
  onTexts(benchmark('parity', 'Whether every runtime makes the same vectors of the same model folder.'), 200),
)
  .addHelpText(
    'after',
    `
Examples:
  npm run bench -- parity
  npm run bench -- parity --model ./my-encoder --data titles.txt --python ~/venv/bin/python`,
  )
  .action(async (options: Options) => {
    const { texts, model } = await inputs(options);
    const rows = await benchParity({ ...options, texts, model });
    print(options, { model: model.name, texts: texts.length, rows }, () => parityTable(rows));
  });

benchmark('encode', 'Texts a second of several encoders on one core, in every precision.')
  .option('--models <dir|name...>', 'the first is what the others are compared with', [
    'all-MiniLM-L6-v2',
    DEFAULT_MODEL,
  ])
  .option('--data <file>', 'texts: a text a line, or a BEIR corpus (.jsonl); .gz too', EXAMPLE)
  .option('--texts <n>', 'take the first n texts of the file', integerFrom(1, 1e6), 1000)
  .option('--rounds <n>', 'measure n times, taking turns; figures are medians', integerFrom(1, 100), 5)
  .addHelpText(
    'after',
    `
Examples:
  npm run bench -- encode
  npm run bench -- encode --models default ./my-encoder --data titles.txt`,
  )
  .action(async (options: Pick<Options, 'data' | 'texts' | 'rounds' | 'json'> & { models: string[] }) => {
    const texts = await readTexts(options.data, options.texts);
    for (const model of options.models) await findModelWithProgress(model);
    const rows = await benchEncode({ ...options, texts });
    print(options, { texts: texts.length, rows }, () => encodeBenchTable(rows));
  });

benchmark('web', 'How long after the last key the page Search shows its first results, in Chromium.')
  .option('--model <dir|name>', 'a model folder, or the name of a model', DEFAULT_MODEL)
  .option('--data <file>', 'a BEIR corpus (.jsonl), which is searched', EXAMPLE)
  .option('--queries <file>', 'what is typed: a text a line, or .jsonl', EXAMPLE_QUERIES)
  .option('--texts <n>', 'type the first n of them', integerFrom(1, 1e6), 30)
  .addOption(
    new Option('--browser <file>', 'a Chromium').env('SENTENCE_JEPA_CHROMIUM').default('/usr/bin/chromium'),
  )
  .addHelpText(
    'after',
    `
Examples:
  npm run bench -- web
  npm run bench -- web --data dev/corpus.jsonl --queries dev/queries.jsonl --texts 100`,
  )
  .action(async (options: Omit<WebOptions, 'corpus' | 'queries' | 'say'> & WebCommandOptions) => {
    const queries = await readTexts(options.queries, options.texts);
    await findModelWithProgress(options.model);
    const result = await benchWeb({ ...options, corpus: options.data, queries, say });
    print(options, { model: options.model, ...result }, () => webTable(result));
  });

benchmark(
  'map',
  'How smoothly the page Map moves over a collection, in Chromium, and how long its layout takes.',
)
  .requiredOption('--data-dir <dir>', "a collection's folder, in which a map is made if there is none")
  .option('--model <dir|name>', "the collection's model", DEFAULT_MODEL)
  .option('--precision <precision>', 'what the collection was embedded in', 'auto')
  .addOption(
    new Option('--browser <file>', 'a Chromium').env('SENTENCE_JEPA_CHROMIUM').default('/usr/bin/chromium'),
  )
  .action(async (options: Omit<MapOptions, 'say'> & Pick<Options, 'json'>) => {
    const result = await benchMap({ ...options, say });
    print(options, { model: options.model, ...result }, () => mapTable(result));
  });

/** The first different texts of all files. */
async function differentTexts(options: { data: readonly string[]; texts: number }): Promise<string[]> {
  const texts = new Set<string>();
  for (const file of options.data)
    for (const text of await readTexts(file, Infinity)) if (texts.size < options.texts) texts.add(text);
  return [...texts];
}

async function inputs(options: Options): Promise<{ texts: string[]; model: ModelFolder }> {
  const texts = await readTexts(options.data, options.texts);
  const { dir, name } = await findModelWithProgress(options.model);
  return { texts, model: await openModelFolder(dir, name) };
}

function print({ json }: { json?: boolean }, result: object, table: () => string): void {
  console.log(
    json ? JSON.stringify({ machine: startedOn, ...result }) : `${machineLine(startedOn)}\n\n${table()}`,
  );
}

function say(line: string): void {
  console.error(line);
}

function peerOf(text: string, earlier: RunningPeer[]): RunningPeer[] {
  const [, name, url, api = 'tei'] = /^([^=]+)=(https?:\/\/[^,]+?)\/*(?:,(tei|openai))?$/.exec(text) ?? [];
  if (!name) throw new InvalidArgumentError('Expected NAME=URL,tei or NAME=URL,openai.');
  return [...earlier, { name, url, api: api as Api }];
}

function minutesOf(text: string): number {
  const minutes = Number(text);
  if (!(minutes > 0 && minutes <= 1440)) throw new InvalidArgumentError('Expected minutes, up to 1440.');
  return minutes;
}

function numbersOf(text: string): number[] {
  return text.split(',').map(integerFrom(1, 10_000_000));
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  command.commands.forEach(throwInsteadOfExit);
}
throwInsteadOfExit(program);

const startedOn = machine();
try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof UserError) {
    console.error(`error: ${error.message}`);
    process.exitCode = error.kind === 'usage' ? 2 : 1;
  } else {
    console.error(error);
    process.exitCode = 1;
  }
}
