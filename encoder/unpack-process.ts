import { UserError, type ErrorKind } from '../base/errors.js';
import { readCompact } from './compact.js';
import { writeModelFolder } from './model-folder.js';

/** What the process says at its end; nothing is wrong without an error. */
export interface Unpacked {
  error?: { kind: ErrorKind; message: string };
}

/** Unpacks a compact folder in a process of its own, see unpack.ts. Arguments: the folder, and the one to make. */
const [dir, out] = process.argv.slice(2);
const answer: Unpacked = {};
try {
  await writeModelFolder(out, await readCompact(dir));
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  const { kind, message } = error;
  answer.error = { kind, message };
}
process.send!(answer);
