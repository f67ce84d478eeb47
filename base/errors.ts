/**
 * What can go wrong through no fault of the program, as one closed list.
 *
 * A kind decides the HTTP status (server/http/errors.ts holds the only table) and the exit code of
 * a command (`usage` 2, every other 1). The message is all that the user sees, so it says what was
 * expected, what came, and the way out.
 */
export type ErrorKind =
  | 'usage' // a command line that makes no sense
  | 'malformed' // not JSON, not UTF-8, a file that is not what its name says
  | 'empty' // no text where a text is needed
  | 'invalid' // well-formed, but a wrong type or value
  | 'not-found' // no such id, model, file
  | 'exists' // would overwrite what is already there
  | 'fingerprint-mismatch' // vectors of two encoders would meet
  | 'too-large' // over a stated limit
  | 'unsupported-media-type'
  | 'unauthorized' // no API key, or a wrong one
  | 'forbidden' // a key without the scope
  | 'overloaded' // come back later
  | 'not-ready' // starting or draining
  | 'unsupported-model' // an encoder that this program can't represent
  | 'corrupt' // a file that was whole once
  | 'unavailable' // something outside is missing: network, native library, disk space
  | 'backend'; // inference or training failed

/** An error whose message is meant for the user. Never shown with a stack trace. */
export class UserError extends Error {
  override readonly name = 'UserError';
  /** Seconds after which trying again may help, where that is known. */
  readonly retryAfter?: number;
  constructor(
    readonly kind: ErrorKind,
    message: string,
    options?: { cause?: unknown; retryAfter?: number },
  ) {
    super(message, options);
    this.retryAfter = options?.retryAfter;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
