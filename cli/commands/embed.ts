import { Command } from 'commander';

export function embedCommand(): Command {
  return new Command('embed').description('embed');
}
