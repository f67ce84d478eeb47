import { Command } from 'commander';

import { messageOf, UserError } from '../../base/errors.js';
import { buildHnswlib } from '../../server/search/hnswlib/build.js';
import { setupTensorFlow } from '../../trainer/setup/setup.js';
import { withFetchBars } from '../find-model.js';

export function setupCommand(): Command {
  return new Command('setup')
    .description("Get TensorFlow's native library, which finetune needs, unless it is here and works.")
    .option('--install', 'as a part of npm install: exit code 0 also when it can not be had')
    .option('--search', 'instead, compile the search index for this processor')
    .addHelpText(
      'after',
      `
Takes the first that works: what npm install brought, tfjs-node's own download, a build from PyPI's TensorFlow
(needs python3 with pip, make and a C++ compiler; takes a minute or two and 750 MB in the cache folder).
SENTENCE_JEPA_CACHE names another cache folder; with SENTENCE_JEPA_SKIP_TENSORFLOW=1 nothing is done.

--search, under Linux on x86-64: hnswlib-node is compiled once more with all that this processor can do (needs make and a
C++ compiler; takes half a minute), tried, and used by serve from then on. On another processor, and without it, serve uses
what npm installed.

Examples:
  sentence-jepa setup
  sentence-jepa setup --search
  SENTENCE_JEPA_SKIP_TENSORFLOW=1 npm install`,
    )
    .action(async ({ install, search }: { install?: boolean; search?: boolean }) => {
      if (search) {
        console.error(`search is compiled for this processor: ${await untilStopped(buildHnswlib)}`);
        return;
      }
      if (process.env.SENTENCE_JEPA_SKIP_TENSORFLOW) {
        console.error(
          'TensorFlow is left out: SENTENCE_JEPA_SKIP_TENSORFLOW is set. Only finetune needs it.',
        );
        return;
      }
      try {
        console.error(`TensorFlow works: ${await setupTraining()}`);
      } catch (error) {
        if (!install) throw error;
        console.error(messageOf(error));
      }
    });
}

function setupTraining(): Promise<string> {
  return untilStopped((signal) =>
    withFetchBars((onProgress) =>
      setupTensorFlow({ say: (line) => console.error(`TensorFlow: ${line}`), onProgress, signal }),
    ),
  );
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
