import path from 'node:path';

import { Command } from 'commander';

import { restore } from '../../server/search/backup.js';
import { dataDirOption } from '../options.js';
import { progressBar } from '../progress.js';

interface Options {
  from: string;
  dataDir: string;
  force?: boolean;
}

export function restoreCommand(): Command {
  return new Command('restore')
    .description('Put a backup into a data folder, after checking it.')
    .requiredOption('--from <dir>', 'what "sentence-jepa backup" made')
    .addOption(dataDirOption())
    .option('--force', 'replace the collection that is there')
    .addHelpText(
      'after',
      `
Examples:
  sentence-jepa restore --from ./backup-monday --data-dir ./data`,
    )
    .action(async ({ from, dataDir, force }: Options) => {
      const bar = progressBar('restoring', 'bytes');
      const { documents, created, model } = await restore(from, dataDir, {
        force,
        onProgress: bar.update,
      }).finally(bar.stop);
      const embedded = model === undefined ? '' : `, embedded by ${model}`;
      console.log(`${documents} documents of ${created}${embedded} are in ${path.resolve(dataDir)}`);
    });
}
