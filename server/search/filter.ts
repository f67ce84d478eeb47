import { UserError } from '../../base/errors.js';
import type { Filter, Metadata } from './collection.js';

type Scalar = string | number | boolean;
type Test = (metadata: Metadata) => boolean;

const comparisons: Record<string, (order: number) => boolean> = {
  gt: (order) => order > 0,
  gte: (order) => order >= 0,
  lt: (order) => order < 0,
  lte: (order) => order <= 0,
};

/**
 * A filter as a function of a document's metadata. All fields must hold. A list matches when one of
 * its values does; a missing field equals null, and differs from everything else. Numbers compare
 * with numbers, strings with strings (by code unit, so that ISO dates sort as dates).
 *
 * @throws UserError `invalid` that names the field and what it can be
 */
export function compileFilter(filter: Filter): (metadata: Metadata | undefined) => boolean {
  const tests = Object.entries(filter).flatMap(([field, condition]) => compileField(field, condition));
  const none: Metadata = {};
  return (metadata = none) => tests.every((test) => test(metadata));
}

function compileField(field: string, condition: unknown): Test[] {
  if (condition === null) return [(metadata) => valueOf(metadata, field) === null];
  if (isScalar(condition)) return [equals(field, condition)];
  if (typeof condition !== 'object' || Array.isArray(condition))
    throw invalid(field, `expected a value or an object of comparisons, found ${nameOf(condition)}`);
  const entries = Object.entries(condition);
  if (entries.length === 0) throw invalid(field, 'expected at least one comparison, found {}');
  return entries.map(([operator, value]) => compileComparison(field, operator, value));
}

function compileComparison(field: string, operator: string, value: unknown): Test {
  if (operator === 'in') {
    if (!Array.isArray(value) || !value.every(isScalar))
      throw invalid(field, `"in" expects a list of strings, numbers or booleans, found ${nameOf(value)}`);
    const wanted = new Set<unknown>(value);
    return (metadata) => someValue(metadata, field, (found) => wanted.has(found));
  }
  if (operator !== 'eq' && operator !== 'ne' && !Object.hasOwn(comparisons, operator))
    throw invalid(field, `unknown comparison "${operator}"; there are eq, ne, gt, gte, lt, lte and in`);
  if (!isScalar(value))
    throw invalid(
      field,
      `"${operator}" expects a string, a finite number or a boolean, found ${nameOf(value)}`,
    );
  if (operator === 'eq') return equals(field, value);
  if (operator === 'ne') {
    const same = equals(field, value);
    return (metadata) => !same(metadata);
  }
  if (typeof value === 'boolean')
    throw invalid(field, `"${operator}" expects a string or a number, found ${value}`);
  const holds = comparisons[operator];
  return (metadata) =>
    someValue(
      metadata,
      field,
      (found) => typeof found === typeof value && holds(found < value ? -1 : found > value ? 1 : 0),
    );
}

function equals(field: string, value: Scalar): Test {
  return (metadata) => someValue(metadata, field, (found) => found === value);
}

function someValue(metadata: Metadata, field: string, test: (value: Scalar) => boolean): boolean {
  const value = valueOf(metadata, field);
  if (value === null) return false;
  return Array.isArray(value) ? value.some(test) : test(value);
}

/** Own properties only: "constructor" or "__proto__" is a field name like any other. */
function valueOf(metadata: Metadata, field: string): Metadata[string] {
  return Object.hasOwn(metadata, field) ? metadata[field] : null;
}

function isScalar(value: unknown): value is Scalar {
  return typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value);
}

function nameOf(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 80) ?? typeof value;
}

function invalid(field: string, message: string): UserError {
  return new UserError('invalid', `filter on ${JSON.stringify(field.slice(0, 80))}: ${message}`);
}
