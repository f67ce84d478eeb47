import createClient from 'openapi-fetch';

import type { components, paths } from '../../server/http/openapi.js';
import { key, keyWanted } from './key.js';

export type Schemas = components['schemas'];

/** The routes of openapi.yaml, with the tab's key. */
export const api = createClient<paths>({ baseUrl: location.origin });

/** The server is away or starting: the same request will do in a while. */
export class NotNow extends Error {}

api.use({
  onRequest({ request }) {
    if (key.value !== '') request.headers.set('Authorization', `Bearer ${key.value}`);
    return request;
  },
  async onResponse({ request, response }) {
    // 401: no key, or an unknown one. 403: one that may not do this.
    if (response.status !== 401 && response.status !== 403) return;
    const told = messageOf(
      await response
        .clone()
        .json()
        .catch(() => undefined),
    );
    // Not of a request that was sent before the key was given.
    const sent = request.headers.get('Authorization') ?? '';
    if (sent === (key.value === '' ? '' : `Bearer ${key.value}`)) keyWanted.value = told;
  },
});

function messageOf(error: unknown): string {
  const told = (error as Partial<Schemas['Error']> | undefined)?.error;
  return typeof told === 'string' ? told : 'The server failed without saying why; its log has it.';
}

/**
 * The body of an answer.
 *
 * @throws NotNow, or Error with the server's own message; AbortError as it is
 */
export async function dataOf<T>(
  answer: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  const { data, error, response } = await answer.catch((thrown: unknown) => {
    // fetch's word for "no connection".
    if (thrown instanceof TypeError)
      throw new NotNow('The server does not answer. Start it again; this page goes on by itself.');
    throw thrown;
  });
  if (response.status === 503) throw new NotNow(messageOf(error));
  if (!response.ok) throw new Error(messageOf(error));
  return data as T;
}
