import path from 'node:path';

import { Command } from 'commander';

import { backUp } from '../../server/search/backup.js';
import { dataDirOption } from '../options.js';
import { progressBar } from '../progress.js';

export function backupCommand(): Command {
  return new Command('backup')
    .description('Copy a collection as it is at one moment, while a server serves it or not.')
    .addOption(dataDirOption())
    .requiredOption('--out <dir>', 'the folder to make')
    .addHelpText(
      'after',
      `
The folder has the database and backup.json, with its checksum. The index is left out: the first start after
"sentence-jepa restore" makes it again.

Examples:
  sentence-jepa backup --data-dir ./data --out ./backup-monday`,
    )
    .action(async ({ dataDir, out }: { dataDir: string; out: string }) => {
      const bar = progressBar('copying', 'pages');
      const { documents, database } = await backUp(dataDir, out, bar.update).finally(bar.stop);
      const size = (database.bytes / 2 ** 20).toFixed(1);
      console.log(`${documents} documents (${size} MiB) are in ${path.resolve(out)}`);
    });
}
