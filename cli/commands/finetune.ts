import { Command } from 'commander';

export function finetuneCommand(): Command {
  return new Command('finetune').description('finetune');
}
