import { readFileSync } from 'node:fs';
import path from 'node:path';

import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { load } from 'js-yaml';

import { projectRoot } from '../../base/paths.js';
import type { components, operations } from './openapi.js';
import type { Scope } from './keys.js';
import { validationError, type Schema } from './validate.js';

/** Checks a value and fills in defaults. @throws HttpError `invalid` or `empty`, naming the field */
export type Check = (value: unknown) => void;

/** A path and method of openapi.yaml, ready to be served. */
export interface Operation {
  id: keyof operations;
  method: 'get' | 'put' | 'post' | 'delete';
  /** In OpenAPI's form: /documents/{id}. */
  path: string;
  /** Answered without an API key. */
  open: boolean;
  /** What a key must be for. */
  scope: Scope;
  /** Answers 503 until the model is loaded and the collection is open. */
  needsServices: boolean;
  /** It needs memory and time of the encoder or the collection: refused when there is too little of them. */
  isWork: boolean;
  checkQuery: Check;
  checkPath: Check;
  /** Undefined where no body is taken. */
  checkBody?: Check;
  takesNdjson: boolean;
  /** The body has one text, not a list of them, and needs no more room than that. */
  takesOneText: boolean;
}

interface ParameterObject {
  name: string;
  in: 'query' | 'path';
  required?: boolean;
  schema: Schema;
}

interface OperationObject {
  operationId: keyof operations;
  security?: { apiKey: [Scope] }[];
  responses: Record<string, unknown>;
  /** Answered while the model loads. */
  'x-while-loading'?: boolean;
  /** Costs so little that only a limit of the client's own refuses it. */
  'x-light'?: boolean;
  'x-one-text'?: boolean;
  parameters?: ParameterObject[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}

/** Replaces every {$ref: '#/a/b'} by what it points to. The schemas are not recursive. */
function resolveRefs(node: unknown, root: unknown): unknown {
  if (Array.isArray(node)) return node.map((item) => resolveRefs(item, root));
  if (node === null || typeof node !== 'object') return node;
  const { $ref } = node as { $ref?: string };
  if ($ref === undefined)
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, resolveRefs(value, root)]));
  const target = $ref
    .slice(2)
    .split('/')
    .reduce((at, key) => (at as Record<string, unknown>)[key], root);
  return resolveRefs(target, root);
}

const options = { strict: false, verbose: true, useDefaults: true, validateFormats: false };
/** 1e999 is valid JSON and reads as Infinity, which is no number here. */
const bodyAjv = new Ajv2020({ ...options, strictNumbers: true });
/**
 * What comes in a URL is text: "10" is taken for an integer there, and a single value for a list. The
 * numbers there all have a range, which refuses Infinity; strictNumbers would skip that check.
 */
const urlAjv = new Ajv2020({ ...options, coerceTypes: 'array' });

/** Compiled when first asked for: all of them at once would be half a second of every start. */
function compile(ajv: Ajv2020, schema: Schema, whole: string, within?: readonly string[]): Check {
  let validate: ValidateFunction | undefined;
  return (value) => {
    validate ??= ajv.compile(schema);
    if (!validate(value)) throw validationError(validate.errors!, whole, within);
  };
}

function parametersSchema(parameters: readonly ParameterObject[], place: ParameterObject['in']): Schema {
  const here = parameters.filter((parameter) => parameter.in === place);
  return {
    type: 'object',
    additionalProperties: false,
    required: here.filter(({ required }) => required).map(({ name }) => name),
    properties: Object.fromEntries(here.map(({ name, schema }) => [name, schema])),
  };
}

export const specFile: string = path.join(projectRoot, 'openapi.yaml');
/** openapi.yaml as it is served. */
export const specText: string = readFileSync(specFile, 'utf8');
const written = load(specText) as unknown;
const spec = resolveRefs(written, written) as {
  paths: Record<string, { parameters?: ParameterObject[] } & Record<string, OperationObject>>;
  components: { schemas: Record<string, Schema> };
  security: { apiKey: [Scope] }[];
};

const methods = ['get', 'put', 'post', 'delete'] as const;

/** Everything that openapi.yaml promises. */
export const allOperations: readonly Operation[] = Object.entries(spec.paths).flatMap(([path, item]) =>
  methods.flatMap((method): Operation[] => {
    const operation = item[method] as OperationObject | undefined;
    if (!operation) return [];
    const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])];
    const content = operation.requestBody?.content;
    return [
      {
        id: operation.operationId,
        method,
        path,
        open: operation.security?.length === 0,
        scope: (operation.security ?? spec.security)[0]?.apiKey[0] ?? 'read',
        needsServices: '503' in operation.responses && !operation['x-while-loading'],
        isWork: '429' in operation.responses && !operation['x-light'],
        checkQuery: compile(urlAjv, parametersSchema(parameters, 'query'), 'the query'),
        checkPath: compile(urlAjv, parametersSchema(parameters, 'path'), 'the path'),
        checkBody: content && compile(bodyAjv, content['application/json'].schema, 'the body'),
        takesNdjson: content?.['application/x-ndjson'] !== undefined,
        takesOneText: operation['x-one-text'] ?? false,
      },
    ];
  }),
);

/** A check for one of openapi.yaml's schemas, for what is neither a body nor a parameter; see validationError. */
export function checkSchema(
  name: keyof components['schemas'],
  whole: string,
  within?: readonly string[],
): Check {
  return compile(bodyAjv, spec.components.schemas[name], whole, within);
}
