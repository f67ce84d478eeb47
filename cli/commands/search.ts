import { Command } from 'commander';

export function searchCommand(): Command {
  return new Command('search').description('search');
}
