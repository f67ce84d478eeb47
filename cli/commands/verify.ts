import { existsSync } from 'node:fs';
import path from 'node:path';

import { Command } from 'commander';

import { BACKUP_MANIFEST, checkBackup } from '../../server/search/backup.js';
import { inspect, refuseProblems } from '../../server/search/inspect.js';
import { databaseFile } from '../../server/search/store.js';
import { dataDirOption } from '../options.js';

export function verifyCommand(): Command {
  return new Command('verify')
    .description('Read all of a collection, or of a backup, and say whether it is whole.')
    .addOption(dataDirOption())
    .addHelpText(
      'after',
      `
It checks the database's pages, the checksum of every text and vector, that every document has its vector and every
vector its document, that nothing that was answered is missing, and a backup's checksum. A server may go on serving the
collection. Ends with 1 when something is damaged.

Examples:
  sentence-jepa verify --data-dir ./data
  sentence-jepa verify --data-dir ./backup-monday`,
    )
    .action(async ({ dataDir }: { dataDir: string }) => {
      if (existsSync(path.join(dataDir, BACKUP_MANIFEST))) await checkBackup(dataDir);
      const file = databaseFile(dataDir);
      const found = inspect(file);
      refuseProblems(file, found.problems);
      const generations = found.generations.map(
        ({ model, vectors, state }) => `${vectors} vectors of ${model} (${state})`,
      );
      console.log([`${file} is whole: ${found.documents} documents`, ...generations].join(', '));
    });
}
