import { Option, type Command } from 'commander';

import { messageOf, UserError } from '../base/errors.js';

/** Where a command finds its server. */
export interface ServerOptions {
  url: string;
  apiKey?: string;
}

export const urlOption = (): Option =>
  new Option('--url <url>', 'where the server listens')
    .default('http://127.0.0.1:3000')
    .env('SENTENCE_JEPA_URL');

export const keyOption = (): Option =>
  new Option('--api-key <key>', 'the key, when the server asks for one').env('SENTENCE_JEPA_API_KEY');

/** Adds commands to one, each of which asks a running server. */
export function serverCommands(parent: Command): (name: string, description: string) => Command {
  return (name, description) =>
    parent.command(name).description(description).addOption(urlOption()).addOption(keyOption());
}

/**
 * Sends a request to a running server.
 *
 * @param body sent as JSON, or a stream of NDJSON
 * @throws UserError `unavailable` when none answers; with the server's own message when it refuses
 */
export async function callServer(
  { url, apiKey }: ServerOptions,
  method: string,
  route: string,
  body?: unknown,
  accept = 'application/json',
): Promise<Response> {
  const isStream = body instanceof ReadableStream;
  const type = isStream ? 'application/x-ndjson' : 'application/json';
  let response: Response;
  try {
    response = await fetch(new URL(route, url), {
      method,
      headers: {
        Accept: accept,
        ...(body !== undefined && { 'Content-Type': type }),
        ...(apiKey && { Authorization: `Bearer ${apiKey}` }),
      },
      ...(body !== undefined && { body: isStream ? body : JSON.stringify(body) }),
      ...(isStream && { duplex: 'half' }),
    } as RequestInit);
  } catch (error) {
    const cause = error instanceof Error && error.cause ? error.cause : error;
    // What was to be sent could not be read.
    if (cause instanceof UserError) throw cause;
    throw new UserError(
      'unavailable',
      `no server answers at ${url} (${messageOf(cause)}); start one with npm start, or name its address with --url`,
    );
  }
  if (response.ok) return response;
  const answer = (await response.json().catch(() => ({}))) as { error?: string };
  throw new UserError(
    'invalid',
    `${url} answers ${response.status}: ${answer.error ?? 'not as this server does'}`,
  );
}
