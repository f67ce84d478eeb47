import { readFile } from 'node:fs/promises';

import { Ajv, type ErrorObject } from 'ajv';
import { CORE_SCHEMA, load, mergeTag } from 'js-yaml';

import { messageOf, UserError } from '../../base/errors.js';
import { fileError } from '../../base/files.js';

/** A setting of a recipe as YAML has it; a list stands for the values with commas between. */
export type Value = string | number | boolean | (string | number)[];

/** One method, or with `grid` one for each combination of values. */
export interface RunDefinition {
  /** Default: the experiment's. */
  preset?: string;
  /** Over the preset and over the experiment's own. */
  settings?: Record<string, Value>;
  /** Whether it is trained on the texts of --data; default true. */
  data?: boolean;
  /** Whether it is trained on the pairs of --pairs; default false. */
  pairs?: boolean;
  /** As after finetune's --adapt. */
  adapt?: string;
  /** Default true; false with adapt: the base encoder is adapted, and no weight changed. */
  train?: boolean;
  /** The values that a setting takes in turn. */
  grid?: Record<string, Value[]>;
}

/** What experiments/*.yaml hold. */
export interface Definition {
  /** What the experiment is to find out, a sentence. */
  about: string;
  /** The encoder that every run starts from, unless --model names another. */
  model?: string;
  /**
   * Which weights of a run are judged: the last ones (default), or those that the first evaluation likes best. Of
   * data that chose the weights the figures flatter.
   */
  select?: 'last' | 'best';
  seeds: number[];
  /** Of every run that names none; default: finetune's own. */
  preset?: string;
  /** The run that the others are compared with, beside the base encoder. */
  reference?: string;
  /** Of every run, over its preset. */
  settings?: Record<string, Value>;
  /** By name. */
  runs: Record<string, RunDefinition>;
}

const value = {
  anyOf: [
    { type: ['string', 'number', 'boolean'] },
    { type: 'array', minItems: 1, items: { type: ['string', 'number'] } },
  ],
};

/** What each part of the schema is called in "expected ...". */
const WORDS = {
  definition: 'a map with about, seeds and runs',
  about: 'a sentence that says what the experiment is to find out',
  name: 'a name of letters, digits and . _ - that is not "base"',
  settings: 'a map from settings to values, as batch: 64',
  value: 'a text, a number, true, false or a list',
  seeds: 'a list of different whole numbers from 0 up',
  runs: 'a map from names to runs',
  run: 'a map, as {preset: mlm}',
  grid: 'a map from settings to lists of values, as batch: [8, 64]',
  values: 'a list of values',
};

const settings = {
  type: 'object',
  description: WORDS.settings,
  additionalProperties: { ...value, description: WORDS.value },
};

const schema = {
  type: 'object',
  description: WORDS.definition,
  required: ['about', 'seeds', 'runs'],
  additionalProperties: false,
  properties: {
    about: { type: 'string', minLength: 1, description: WORDS.about },
    model: { type: 'string', minLength: 1, description: 'a model folder or the name of a model' },
    select: { enum: ['last', 'best'], description: 'last or best' },
    seeds: {
      type: 'array',
      minItems: 1,
      uniqueItems: true,
      items: { type: 'integer', minimum: 0, description: 'a whole number from 0 up' },
      description: WORDS.seeds,
    },
    preset: { type: 'string', description: 'the name of a preset' },
    reference: { type: 'string', description: 'the name of a run' },
    settings,
    runs: {
      type: 'object',
      minProperties: 1,
      description: WORDS.runs,
      propertyNames: { pattern: '^(?!base$)[A-Za-z0-9][A-Za-z0-9._-]*$', description: WORDS.name },
      additionalProperties: {
        type: 'object',
        description: WORDS.run,
        additionalProperties: false,
        properties: {
          preset: { type: 'string', description: 'the name of a preset' },
          settings,
          data: { type: 'boolean', description: 'true or false' },
          pairs: { type: 'boolean', description: 'true or false' },
          adapt: { type: 'string', description: 'a text, as center,pca=192' },
          train: { type: 'boolean', description: 'true or false' },
          grid: {
            type: 'object',
            minProperties: 1,
            description: WORDS.grid,
            additionalProperties: {
              type: 'array',
              minItems: 1,
              description: WORDS.values,
              items: { ...value, description: WORDS.value },
            },
          },
        },
      },
    },
  },
};

const validate = new Ajv({ verbose: true, allowUnionTypes: true }).compile(schema);

/** @throws UserError as parseDefinition, and `not-found` */
export async function readDefinition(file: string): Promise<Definition> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw fileError(error, file, 'read');
  }
  return parseDefinition(text, file);
}

/**
 * @param file what to call it
 * @throws UserError `malformed` for what is not YAML; `invalid`, with file and path, for what is no experiment
 */
export function parseDefinition(text: string, file: string): Definition {
  let found: unknown;
  try {
    found = load(text, { schema: CORE_SCHEMA.withTags(mergeTag) });
  } catch (error) {
    throw new UserError('malformed', `${file}: expected YAML: ${messageOf(error).trim()}`, { cause: error });
  }
  if (validate(found)) return found as unknown as Definition;
  throw new UserError('invalid', `${file}: ${inWords(validate.errors!)}`);
}

interface Described {
  description?: string;
  properties?: Record<string, Described>;
}

/** What is wrong, in one sentence: path, what was expected, what was found. */
function inWords(errors: readonly ErrorObject[]): string {
  // Of a value that none of several alternatives fits, the last error is that of all of them, and has the words.
  const error = errors[errors.length - 1];
  const path = error.instancePath.split('/').slice(1);
  const at = (...names: string[]): string => names.map((name) => name.replaceAll('~1', '/')).join('.');
  const { description, properties = {} } = error.parentSchema as Described;
  const { missingProperty, additionalProperty, propertyName } = error.params as Record<string, string>;
  if (error.keyword === 'required')
    return `${at(...path, missingProperty)}: expected ${properties[missingProperty]?.description}, found nothing`;
  if (error.keyword === 'additionalProperties')
    return `${at(...path, additionalProperty)}: expected one of ${Object.keys(properties).join(', ')}, found "${additionalProperty}"`;
  if (error.keyword === 'propertyNames')
    return `${at(...path, propertyName)}: expected ${WORDS.name}, found "${propertyName}"`;
  const where = path.length > 0 ? at(...path) : 'the file';
  return `${where}: expected ${description}, found ${JSON.stringify(error.data)?.slice(0, 80) ?? 'nothing'}`;
}
