import { Command } from 'commander';

import type { components } from '../../server/http/openapi.js';
import { callServer, serverCommands, type ServerOptions } from '../server-client.js';

type Models = components['schemas']['Models'];
type LiveModel = components['schemas']['LiveModel'];

export function modelsCommand(): Command {
  const command = new Command('models').description(
    'Models of a running server: which is live, switch, go back.',
  );
  const sub = serverCommands(command);

  sub('list', 'The live model, the one before it, and one that waits.')
    .option('--json', "print the server's answer")
    .action(async (options: ServerOptions & { json?: boolean }) => {
      const { models } = (await (await callServer(options, 'GET', '/models')).json()) as Models;
      if (options.json) console.log(JSON.stringify({ models }));
      else
        for (const { name, state, vectors, served } of models)
          console.log(
            `${name.padEnd(24)} ${state.padEnd(9)} ${vectors} vectors${served ? '' : ', not loaded'}`,
          );
    });
  sub('activate', 'Put a model live.')
    .argument('<name>', 'as "models list" tells it')
    .action(async (name: string, options: ServerOptions) =>
      tell(await callServer(options, 'POST', `/models/${encodeURIComponent(name)}/activate`)),
    );
  sub('rollback', 'Back to the model before the live one.').action(async (options: ServerOptions) =>
    tell(await callServer(options, 'POST', '/models/rollback')),
  );
  return command.addHelpText(
    'after',
    `
"model" is another command: it gets, checks and exports model folders.

Examples:
  sentence-jepa models list
  sentence-jepa models activate finetuned-3
  sentence-jepa models rollback`,
  );
}

async function tell(response: Response): Promise<void> {
  const { model } = (await response.json()) as LiveModel;
  console.log(`${model} is live`);
}
