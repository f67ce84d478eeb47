import { existsSync } from 'node:fs';
import path from 'node:path';

import { UserError } from '../../base/errors.js';

/** What a migration writes until it is whole, and the folder's collection. */
export function unfinishedFile(dataDir: string): string {
  return path.join(dataDir, 'migrating.sqlite');
}

/** @throws UserError `not-ready` for a folder that a migration has not finished */
export function refuseUnfinished(dataDir: string): void {
  const file = unfinishedFile(dataDir);
  if (existsSync(file))
    throw new UserError(
      'not-ready',
      `${dataDir}: a migration into it is not finished. Run it again, or give it up by removing ${file}*`,
    );
}
