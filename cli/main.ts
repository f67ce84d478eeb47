#!/usr/bin/env node
import { Command, CommanderError } from 'commander';

import { UserError } from '../base/errors.js';
import { version } from '../base/paths.js';
import { embedCommand } from './commands/embed.js';
import { evaluateCommand } from './commands/evaluate.js';
import { finetuneCommand } from './commands/finetune.js';
import { modelCommand } from './commands/model.js';
import { searchCommand } from './commands/search.js';
import { serveCommand } from './commands/serve.js';
import { setupCommand } from './commands/setup.js';

/** Exit codes: 0 done, 1 failed, 2 bad usage. */
const program = new Command('sentence-jepa')
  .description('Fine-tune a sentence encoder on your own text, serve it, find duplicates.')
  .version(version)
  .showHelpAfterError('(--help shows the options and examples)');

const commands = [
  serveCommand(),
  finetuneCommand(),
  evaluateCommand(),
  embedCommand(),
  searchCommand(),
  modelCommand(),
  setupCommand(),
];
for (const command of commands) program.addCommand(command.copyInheritedSettings(program));

/** Commander calls process.exit on every command unless each one is told otherwise. */
function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  command.commands.forEach(throwInsteadOfExit);
}
throwInsteadOfExit(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof UserError) {
    console.error(`error: ${error.message}`);
    process.exitCode = error.kind === 'usage' ? 2 : 1;
  } else {
    // Not foreseen: here, and only here, a stack trace helps.
    console.error(error);
    process.exitCode = 1;
  }
}
