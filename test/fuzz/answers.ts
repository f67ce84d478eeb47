import type { IncomingHttpHeaders } from 'node:http';

import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { load } from 'js-yaml';

import { specText } from '../../server/http/spec.js';
import type { FuzzRequest } from './valid-requests.js';

export interface FuzzAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

interface Response {
  content?: Record<string, unknown>;
}

const spec = load(specText) as {
  paths: Record<string, Record<string, { responses: Record<string, Response | { $ref: string }> }>>;
  components: { responses: Record<string, Response> };
};
const ajv = new Ajv2020({ strict: false, validateFormats: false });
ajv.addSchema(spec, 'openapi');

/** Statuses that belong to no operation: a path or method that is not there. */
const ELSEWHERE = [404, 405];
/** HTTP's own, of any resource: /docs has a slash behind it, and a client may have it already. */
const GENERAL = [301, 304];
/** What may be the server's fault, and is said to be. */
const ALLOWED_FAILURES = [503, 507];

/** @returns what is wrong with an answer: a failure, or not what openapi.yaml says; nothing when it is right */
export function answerViolation(request: FuzzRequest, answer: FuzzAnswer): string | undefined {
  const { status, headers, body } = answer;
  if (status >= 500 && !ALLOWED_FAILURES.includes(status)) return `${status}: ${start(body)}`;
  // Node's own parser answers without us, and without an id.
  if (headers['x-request-id'] === undefined)
    return [400, 408, 413, 417, 431].includes(status) ? undefined : `${status} without X-Request-Id`;
  const { operation, method } = request;
  // A server without keys does not go by every name.
  const isOtherHost = status === 403 && request.headers.host !== undefined;
  const isErrorElsewhere =
    isOtherHost || ELSEWHERE.includes(status) || method !== operation.method.toUpperCase();
  const found = spec.paths[operation.path][operation.method].responses[status];
  if (found === undefined || isErrorElsewhere) {
    const isElsewhere = isErrorElsewhere || isOtherRoute(request) || GENERAL.includes(status);
    if (found === undefined && !isElsewhere) return `${status} is not described: ${start(body)}`;
    if (status < 400 || method === 'HEAD' || body.length === 0) return undefined;
    return isError(body) ? undefined : `${status} is no error as described: ${start(body)}`;
  }
  const pointer = '$ref' in found ? found.$ref.slice(1) : pointerTo(request, status);
  const { content } = '$ref' in found ? spec.components.responses[found.$ref.split('/').at(-1)!] : found;
  if (!content || method === 'HEAD') return undefined;
  const type = (headers['content-type'] ?? '').split(';')[0];
  if (!(type in content)) return isOtherRoute(request) ? undefined : `${status}: ${type} is not described`;
  if (type !== 'application/json' && type !== 'application/x-ndjson') return undefined;
  const check = ajv.getSchema(`openapi#${pointer}/content/${escape(type)}/schema`) as ValidateFunction;
  const parts = type === 'application/json' ? [body.toString()] : body.toString().trim().split('\n');
  for (const part of parts) {
    let value: unknown;
    try {
      value = JSON.parse(part);
    } catch {
      return `${status}: no JSON: ${start(body)}`;
    }
    // The last line of a stream that broke is an error.
    if (!check(value) && !(type !== 'application/json' && isError(Buffer.from(part))))
      return `${status}: ${ajv.errorsText(check.errors)}: ${start(body)}`;
  }
  return undefined;
}

function pointerTo({ operation: { path, method } }: FuzzRequest, status: number): string {
  return `/paths/${escape(path)}/${method}/responses/${status}`;
}

function escape(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

/** A mutated path may lead to another operation. */
function isOtherRoute({ operation, path }: FuzzRequest): boolean {
  const form = operation.path.replace(/[.*+?^$()|[\]\\]/g, '\\$&').replace(/\{\w+\}/g, '[^/?]+');
  return !new RegExp(`^${form}(\\?|$)`).test(path);
}

function isError(body: Buffer): boolean {
  try {
    const value = JSON.parse(body.toString()) as { error?: unknown };
    return ['Error', 'OpenAiError'].some(
      (name) => ajv.getSchema(`openapi#/components/schemas/${name}`)!(value) === true,
    );
  } catch {
    return false;
  }
}

function start(body: Buffer): string {
  return JSON.stringify(body.toString('utf8', 0, 200));
}
