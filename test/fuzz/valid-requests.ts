import { load } from 'js-yaml';

import { allOperations, specText, type Operation } from '../../server/http/spec.js';

export interface FuzzRequest {
  operation: Operation;
  method: string;
  /** With the query. */
  path: string;
  headers: Record<string, string>;
  body?: Buffer;
}

interface Parameter {
  name: string;
  in: 'query' | 'path';
  example?: unknown;
  schema: { default?: unknown };
}

/** In place, or by its name among the components. */
type MaybeReference = Parameter | { $ref: string };

interface Described {
  parameters?: MaybeReference[];
  requestBody?: {
    content: Record<string, { example?: unknown; examples?: Record<string, { value: unknown }> }>;
  };
}

const spec = load(specText) as {
  paths: Record<string, Record<string, Described>>;
  components: { parameters: Record<string, Parameter> };
};

function parameterOf(parameter: MaybeReference): Parameter {
  return '$ref' in parameter ? spec.components.parameters[parameter.$ref.split('/').at(-1)!] : parameter;
}

/** Every example of openapi.yaml, as the request that it describes. */
export const validRequests: readonly FuzzRequest[] = allOperations.flatMap((operation): FuzzRequest[] => {
  const item = spec.paths[operation.path];
  const described = item[operation.method];
  const parameters = [...((item as unknown as Described).parameters ?? []), ...(described.parameters ?? [])];
  const query = new URLSearchParams();
  let { path } = operation;
  for (const { name, in: place, example, schema } of parameters.map(parameterOf)) {
    const value = example ?? schema.default;
    if (place === 'path') path = path.replace(`{${name}}`, encodeURIComponent(String(value)));
    else if (value !== undefined) query.set(name, String(value));
  }
  const target = query.size > 0 ? `${path}?${query}` : path;
  const request = { operation, method: operation.method.toUpperCase(), path: target, headers: {} };
  const contents = Object.entries(described.requestBody?.content ?? {});
  if (contents.length === 0) return [request];
  return contents.flatMap(([type, { example, examples }]) => {
    const values = examples ? Object.values(examples).map(({ value }) => value) : [example];
    return values.map((value) => ({
      ...request,
      headers: { 'content-type': type },
      body: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
    }));
  });
});
