import { compileFilter } from '../search/filter.js';
import type { Filter } from '../search/collection.js';
import { isStrange, NUL } from './characters.js';

type Scalar = string | number | boolean;

const comparisons: Readonly<Record<string, string>> = Object.freeze({
  gt: '>',
  gte: '>=',
  lt: '<',
  lte: '<=',
});

/** Gives a value a place among a statement's parameters, and returns its name there: $3. */
export type Bind = (value: unknown) => string;

/**
 * A filter as a condition on `metadata`, with the meaning that server/search/filter.ts gives it. Strings are compared by
 * code point, not by UTF-16 unit: they differ only beyond U+FFFF. No value of a filter becomes part of the SQL.
 *
 * @throws UserError `invalid` that names the field and what it can be
 */
export function filterSql(filter: Filter, bind: Bind): string {
  compileFilter(filter);
  const conditions = Object.entries(filter).flatMap(([field, condition]) => {
    if (condition === null) return [`coalesce(metadata -> ${fieldOf(field, bind)}, 'null') = 'null'`];
    if (typeof condition !== 'object') return [equals(field, condition, bind)];
    return Object.entries(condition).map(([operator, value]) => compare(field, operator, value, bind));
  });
  return conditions.length === 0 ? 'true' : conditions.map((condition) => `(${condition})`).join(' AND ');
}

function compare(field: string, operator: string, value: Scalar | Scalar[], bind: Bind): string {
  if (Array.isArray(value))
    return value.length === 0 ? 'false' : value.map((each) => equals(field, each, bind)).join(' OR ');
  if (operator === 'eq') return equals(field, value, bind);
  if (operator === 'ne') return `(${equals(field, value, bind)}) IS NOT TRUE`;
  const found = `metadata -> ${fieldOf(field, bind)}`;
  const sign = comparisons[operator];
  if (typeof value === 'number')
    return `jsonb_typeof(${found}) = 'number' AND ${found} ${sign} ${bind(JSON.stringify(value))}::jsonb`;
  const [bound, shifted] = withoutNul(String(value), sign);
  return `EXISTS (
    SELECT FROM jsonb_array_elements(
      CASE jsonb_typeof(${found}) WHEN 'array' THEN ${found} ELSE jsonb_build_array(${found}) END) AS item
    WHERE jsonb_typeof(item) = 'string' AND (item #>> '{}') COLLATE "C" ${shifted} ${bind(bound)}::text)`;
}

/** The two forms of containment, a value and a list that has it, are what the index on metadata answers. */
function equals(field: string, value: Scalar, bind: Bind): string {
  if (isStrange(field) || (typeof value === 'string' && isStrange(value))) return 'false';
  const alone = bind(JSON.stringify({ [field]: value }));
  const listed = bind(JSON.stringify({ [field]: [value] }));
  return `metadata @> ${alone}::jsonb OR metadata @> ${listed}::jsonb`;
}

/** A field that no document has, where PostgreSQL can't be asked for its name. */
function fieldOf(field: string, bind: Bind): string {
  return isStrange(field) ? 'NULL::text' : `${bind(field)}::text`;
}

/** No stored string has a NUL: beyond "a\0b" lies what is beyond "a", and "a" itself lies before it. */
function withoutNul(value: string, sign: string): [bound: string, sign: string] {
  const at = value.indexOf(NUL);
  return at < 0 ? [value, sign] : [value.slice(0, at), sign.startsWith('>') ? '>' : '<='];
}
