import { createRequire } from 'node:module';

import { UserError } from '../../base/errors.js';

const load = createRequire(import.meta.url);

/**
 * A package that an installation may be without.
 *
 * @param needs who asks, for the message
 * @throws UserError `unavailable`, with the command that installs it
 */
export function loadOptional<T>(name: string, needs: string): T {
  try {
    return load(name) as T;
  } catch (error) {
    throw new UserError(
      'unavailable',
      `${needs}: expected the package ${name}, which is not installed; install it with: npm install ${name}`,
      { cause: error },
    );
  }
}
