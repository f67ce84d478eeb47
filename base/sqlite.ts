import { createRequire } from 'node:module';

import type Database from 'better-sqlite3';

/** Of Node 22.14; the first that better-sqlite3 13 loads in. */
const NODE_API = 10;

/**
 * better-sqlite3 13 where Node can load it, 12 elsewhere (Node 20). One alone won't do: 12, when it is compiled
 * against the headers of Node 24.19 and later, aborts the process, and 13 does in Node 20.
 */
export const Sqlite: typeof Database = (() => {
  const require = createRequire(import.meta.url);
  if (Number(process.versions.napi) >= NODE_API)
    try {
      return require('better-sqlite3-13') as typeof Database;
    } catch (error) {
      // It is optional: npm leaves it out where it can't be installed.
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    }
  return require('better-sqlite3') as typeof Database;
})();
