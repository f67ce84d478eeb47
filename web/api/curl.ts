import { key } from './key.js';

export interface ApiRequest {
  /** With its query. */
  path: string;
  /** Of a POST; a GET has none. */
  body?: unknown;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** A command for a shell that does the same. The key stays where it is: the command names a variable for it. */
export function curlOf({ path, body }: ApiRequest): string {
  return [
    'curl',
    quoted(location.origin + path),
    ...(key.value === '' ? [] : ['-H', '"Authorization: Bearer $SENTENCE_JEPA_API_KEY"']),
    ...(body === undefined
      ? []
      : ['-H', quoted('Content-Type: application/json'), '-d', quoted(JSON.stringify(body))]),
  ].join(' ');
}
