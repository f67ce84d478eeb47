export interface Difference {
  /** Where: `recipe.batch`; empty for the whole. */
  at: string;
  a: unknown;
  b: unknown;
}

/** The first place at which two pieces of plain data are not the same; a key that is missing is undefined. */
export function firstDifference(a: unknown, b: unknown, at = ''): Difference | undefined {
  if (!isObject(a) || !isObject(b) || Array.isArray(a) !== Array.isArray(b))
    return a === b ? undefined : { at, a, b };
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const difference = firstDifference(a[key], b[key], at === '' ? key : `${at}.${key}`);
    if (difference) return difference;
  }
  return undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
