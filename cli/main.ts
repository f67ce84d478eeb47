#!/usr/bin/env node
import { Command, CommanderError } from 'commander';

import { UserError } from '../base/errors.js';
import { version } from '../base/paths.js';

// Whoever reads has enough, as `| head` does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

/** Exit codes: 0 done, 1 failed, 2 bad usage. */
const program = new Command('sentence-jepa')
  .description('Fine-tune a sentence encoder on your own text, serve it, find duplicates.')
  .version(version)
  .showHelpAfterError('(--help shows the options and examples)');

const COMMANDS: Record<string, () => Promise<Command>> = {
  serve: async () => (await import('./commands/serve.js')).serveCommand(),
  worker: async () => (await import('./commands/worker.js')).workerCommand(),
  finetune: async () => (await import('./commands/finetune.js')).finetuneCommand(),
  experiment: async () => (await import('./commands/experiment.js')).experimentCommand(),
  evaluate: async () => (await import('./commands/evaluate.js')).evaluateCommand(),
  embed: async () => (await import('./commands/embed.js')).embedCommand(),
  search: async () => (await import('./commands/search.js')).searchCommand(),
  backup: async () => (await import('./commands/backup.js')).backupCommand(),
  restore: async () => (await import('./commands/restore.js')).restoreCommand(),
  verify: async () => (await import('./commands/verify.js')).verifyCommand(),
  migrate: async () => (await import('./commands/migrate.js')).migrateCommand(),
  jobs: async () => (await import('./commands/jobs.js')).jobsCommand(),
  models: async () => (await import('./commands/models.js')).modelsCommand(),
  feedback: async () => (await import('./commands/feedback.js')).feedbackCommand(),
  model: async () => (await import('./commands/model.js')).modelCommand(),
  setup: async () => (await import('./commands/setup.js')).setupCommand(),
};

// One command has no use for what the others load: a server would carry an inference runtime twice.
const [asked] = process.argv.slice(2);
for (const name of Object.hasOwn(COMMANDS, asked ?? '') ? [asked] : Object.keys(COMMANDS))
  program.addCommand((await COMMANDS[name]()).copyInheritedSettings(program));

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
