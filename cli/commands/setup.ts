import { Command } from 'commander';

import { messageOf, UserError } from '../../base/errors.js';
import { setupTensorFlow } from '../../trainer/setup/setup.js';
import { withFetchBars } from '../find-model.js';

export function setupCommand(): Command {
  return new Command('setup')
    .description("Get TensorFlow's native library, which finetune needs, unless it is here and works.")
    .option('--install', 'as a part of npm install: exit code 0 also when it can not be had')
    .addHelpText(
      'after',
      `
Takes the first that works: what npm install brought, tfjs-node's own download, a build from PyPI's TensorFlow
(needs python3 with pip, make and a C++ compiler; takes a minute or two and 800 MB in the cache folder).
SENTENCE_JEPA_CACHE names another cache folder; with SENTENCE_JEPA_SKIP_TENSORFLOW=1 nothing is done.

Examples:
  sentence-jepa setup
  SENTENCE_JEPA_SKIP_TENSORFLOW=1 npm install`,
    )
    .action(async ({ install }: { install?: boolean }) => {
      if (process.env.SENTENCE_JEPA_SKIP_TENSORFLOW) {
        console.error(
          'TensorFlow is left out: SENTENCE_JEPA_SKIP_TENSORFLOW is set. Only finetune needs it.',
        );
        return;
      }
      try {
        console.error(`TensorFlow works: ${await setup()}`);
      } catch (error) {
        if (!install) throw error;
        console.error(messageOf(error));
      }
    });
}

/** Ends a build on Ctrl-C or kill with nothing half-made left behind. */
async function setup(): Promise<string> {
  const stop = new AbortController();
  const onSignal = (signal: string): void => stop.abort(new UserError('unavailable', `stopped by ${signal}`));
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    return await withFetchBars((onProgress) =>
      setupTensorFlow({
        say: (line) => console.error(`TensorFlow: ${line}`),
        onProgress,
        signal: stop.signal,
      }),
    );
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
