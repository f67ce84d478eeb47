import type { ErrorObject } from 'ajv';

import { HttpError } from './errors.js';

/** The part of JSON Schema that openapi.yaml uses, every $ref resolved. */
export interface Schema {
  type?: string | string[];
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  properties?: Record<string, Schema>;
  anyOf?: Schema[];
  /** How an error message names what is expected, where the keywords say it badly. */
  'x-expected'?: string;
  [keyword: string]: unknown;
}

const typeNames: Record<string, string> = {
  string: 'a string',
  integer: 'an integer',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  null: 'null',
};

function joined(words: readonly string[], last: string): string {
  return words.length < 2
    ? words.join()
    : `${words.slice(0, -1).join(', ')} ${last} ${words[words.length - 1]}`;
}

function range(least: number | undefined, most: number | undefined): string {
  if (least !== undefined && most !== undefined) return `${least} to ${most}`;
  return least !== undefined ? `at least ${least}` : most !== undefined ? `at most ${most}` : '';
}

/** What a schema expects, in words: "an integer from 1 to 1000". */
export function expected(schema: Schema): string {
  if (schema['x-expected']) return schema['x-expected'];
  if (schema.enum) return `one of ${joined(schema.enum.map(String), 'or')}`;
  if (schema.anyOf) return joined([...new Set(schema.anyOf.map(expected))], 'or');
  const type = joined(
    [schema.type ?? []].flat().map((name) => typeNames[name] ?? name),
    'or',
  );
  const numbers = range(schema.minimum, schema.maximum);
  const length = range(schema.minLength, schema.maxLength);
  const items = range(schema.minItems, schema.maxItems);
  const fields = range(schema.minProperties, schema.maxProperties);
  if (numbers) return `${type} ${numbers.startsWith('at') ? 'of' : 'from'} ${numbers}`;
  if (length) return `${type} of ${length} characters`;
  if (items) return `${type} of ${items} ${items.endsWith(' 1') ? 'item' : 'items'}`;
  if (fields) return `${type} of ${fields} ${fields.endsWith(' 1') ? 'field' : 'fields'}`;
  return type;
}

/** What came, in a few words. */
export function came(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') {
    return value.length <= 40
      ? JSON.stringify(value)
      : `${JSON.stringify(value.slice(0, 40))}... (${value.length} characters)`;
  }
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : `a list of ${value.length}`;
  if (value !== null && typeof value === 'object') {
    const { length } = Object.keys(value);
    return length === 0 ? 'an empty object' : `an object of ${length} ${length === 1 ? 'field' : 'fields'}`;
  }
  return String(value);
}

function segments(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** /documents/3/text -> documents[3].text */
function fieldName(path: readonly string[]): string {
  return path.map((part, i) => (/^\d+$/.test(part) ? `[${part}]` : i === 0 ? part : `.${part}`)).join('');
}

/** Say only that others beside them do not hold. */
const WRAPPERS = new Set(['anyOf', 'oneOf', 'propertyNames']);
/** About which fields an object has, and how many: a step further in than the object. */
const ABOUT_NAMES = new Set(['required', 'additionalProperties']);
const ABOUT_FIELDS = new Set([...ABOUT_NAMES, 'minProperties', 'maxProperties']);

/**
 * One message out of what ajv (with `verbose`) found: of the alternatives of an `anyOf` the one that
 * the value came closest to, which is the one whose error lies deepest.
 *
 * @param whole what to call the value itself: "the body", "the query"
 * @param within the path to it, where it is a part of what was sent
 */
export function validationError(
  errors: readonly ErrorObject[],
  whole: string,
  within: readonly string[] = [],
): HttpError {
  const candidates = errors
    .filter(({ keyword }) => !WRAPPERS.has(keyword))
    .map((error) => {
      const path = [...within, ...segments(error.instancePath)];
      return { error, path, depth: path.length + (ABOUT_FIELDS.has(error.keyword) ? 1 : 0) };
    });
  const deepest = Math.max(...candidates.map(({ depth }) => depth));
  let closest = candidates.filter(({ depth }) => depth === deepest);
  // An alternative that knows the field, and has something against its value, came closer than one that does not.
  const known = closest.filter(({ error }) => !ABOUT_NAMES.has(error.keyword));
  if (known.length > 0) closest = known;
  // Where one alternative has the right type, what is wrong is not the type.
  const { error, path } = closest.find(({ error }) => error.keyword !== 'type') ?? closest[0];
  const parent = error.parentSchema as Schema;

  if (error.keyword === 'required') {
    const name = String(error.params.missingProperty);
    const param = fieldName([...path, name]);
    return new HttpError(
      'invalid',
      `${param}: expected ${expected(parent.properties?.[name] ?? {})}, came nothing`,
      {
        param,
      },
    );
  }
  if (error.keyword === 'additionalProperties') {
    const name = String(error.params.additionalProperty);
    const known = Object.keys(parent.properties ?? {});
    const where = path.length > 0 ? fieldName(path) : whole;
    const message = `${where}: expected only ${joined(known, 'and')}, came the unknown field ${JSON.stringify(name)}`;
    return new HttpError(
      'invalid',
      known.length > 0 ? message : `${where}: expected no fields, came ${name}`,
      {
        param: fieldName([...path, name]),
      },
    );
  }
  const schemas =
    error.keyword === 'type' ? closest.map((other) => other.error.parentSchema as Schema) : [parent];
  const wanted = joined([...new Set(schemas.map(expected))], 'or');
  const param = fieldName(path);
  const empty =
    (error.keyword === 'minItems' && (error.data as unknown[]).length === 0) ||
    ((error.keyword === 'pattern' || error.keyword === 'minLength') && (error.data as string).trim() === '');
  return new HttpError(
    empty ? 'empty' : 'invalid',
    `${param || whole}: expected ${wanted}, came ${came(error.data)}`,
    { param: param || undefined },
  );
}
