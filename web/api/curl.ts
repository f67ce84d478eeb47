import { key } from './key.js';

export interface ApiRequest {
  method?: 'GET' | 'POST' | 'DELETE';
  /** With its query. */
  path: string;
  body?: unknown;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** A command for a shell that does the same. The key stays where it is: the command names a variable for it. */
export function curlOf({ method = 'GET', path, body }: ApiRequest): string {
  return [
    'curl',
    ...(method === 'GET' || (method === 'POST' && body !== undefined) ? [] : ['-X', method]),
    quoted(location.origin + path),
    ...(key.value === '' ? [] : ['-H', '"Authorization: Bearer $SENTENCE_JEPA_API_KEY"']),
    ...(body === undefined
      ? []
      : ['-H', quoted('Content-Type: application/json'), '-d', quoted(JSON.stringify(body))]),
  ].join(' ');
}
