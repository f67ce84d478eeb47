import { Command } from 'commander';

export function setupCommand(): Command {
  return new Command('setup').description('setup');
}
