import { Command } from 'commander';

import { messageOf, UserError } from '../../base/errors.js';
import { buildKernels } from '../../encoder/kernels/build.js';
import { buildHnswlib } from '../../server/search/hnswlib/build.js';
import { setupTensorFlow } from '../../trainer/setup/setup.js';
import { withFetchBars } from '../find-model.js';

export function setupCommand(): Command {
  return new Command('setup')
    .description(
      "Compile the kernels that encode texts, and get TensorFlow's native library, which finetune needs, unless they are here and work.",
    )
    .option('--install', 'as a part of npm install: exit code 0 also when they can not be had')
    .option('--kernels', 'compile the kernels alone')
    .option('--search', 'instead, compile the search index for this processor')
    .addHelpText(
      'after',
      `
Kernels, under Linux on x86-64: a BERT's forward pass in C++ (needs make and a C++ compiler; takes a quarter of a minute).
What is compiled serves every such processor, and chooses at start by what this one has. Without them ONNX Runtime computes,
which takes about twice as long.

TensorFlow: takes the first that works: what npm install brought, tfjs-node's own download, a build from PyPI's TensorFlow
(needs python3 with pip, make and a C++ compiler; takes a minute or two and 750 MB in the cache folder).
SENTENCE_JEPA_CACHE names another cache folder for it; with SENTENCE_JEPA_SKIP_TENSORFLOW=1 it is left out.

--search, under Linux on x86-64: hnswlib-node is compiled once more with all that this processor can do (needs make and a
C++ compiler; takes half a minute), tried, and used by serve from then on. On another processor, and without it, serve uses
what npm installed.

Examples:
  sentence-jepa setup
  sentence-jepa setup --kernels
  sentence-jepa setup --search
  SENTENCE_JEPA_SKIP_TENSORFLOW=1 npm install`,
    )
    .action(async ({ install, kernels, search }: SetupFlags) => {
      if (search) {
        console.error(`search is compiled for this processor: ${await untilStopped(buildHnswlib)}`);
        return;
      }
      if (kernels) return setupKernels();
      // Everything works without them, slower.
      await setupKernels().catch(say);
      await setupTraining().catch((error: unknown) => {
        if (!install) throw error;
        say(error);
      });
    });
}

interface SetupFlags {
  install?: boolean;
  kernels?: boolean;
  search?: boolean;
}

function say(error: unknown): void {
  console.error(messageOf(error));
}

async function setupKernels(): Promise<void> {
  const folder = await untilStopped((signal) => buildKernels(signal)).catch((error: unknown) => {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(error.kind, `kernels: ${error.message}; ONNX Runtime encodes instead`, {
      cause: error,
    });
  });
  console.error(`kernels work: ${folder}`);
}

async function setupTraining(): Promise<void> {
  if (process.env.SENTENCE_JEPA_SKIP_TENSORFLOW) {
    console.error('TensorFlow is left out: SENTENCE_JEPA_SKIP_TENSORFLOW is set. Only finetune needs it.');
    return;
  }
  const folder = await untilStopped((signal) =>
    withFetchBars((onProgress) =>
      setupTensorFlow({ say: (line) => console.error(`TensorFlow: ${line}`), onProgress, signal }),
    ),
  );
  console.error(`TensorFlow works: ${folder}`);
}

/** Ends a build on Ctrl-C or kill with nothing half-made left behind. */
async function untilStopped<T>(build: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const onSignal = (signal: string): void => stop.abort(new UserError('unavailable', `stopped by ${signal}`));
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    return await build(stop.signal);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
