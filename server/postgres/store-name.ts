import { UserError } from '../../base/errors.js';

/**
 * A store's URL without user and password, for people to read.
 * @param option where it was given
 * @throws UserError `usage`, without the text that came: it may hold a password
 */
export function storeName(url: string, option = '--store'): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !/^postgres(ql)?:$/.test(parsed.protocol))
    throw new UserError(
      'usage',
      `${option}: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE, came something else`,
    );
  return `postgres://${parsed.host}${parsed.pathname}`;
}
