import { after, before } from 'node:test';

import { post, startTestServer, testConfig, type TestServer } from '../server/http-support.js';

/** The server that a file's clients speak to, with a key and room for a few texts in a request. */
export interface ServerWithKey {
  readonly url: string;
  /** What /embed gives, as float32. */
  embed(inputs: string | readonly string[], options?: object): Promise<number[][]>;
}

export const KEY = 'the-key';
/** Texts of one request. */
export const MAX_TEXTS = 8;

/** Starts a server before the file's tests and stops it after them. */
export function serverWithKey(): ServerWithKey {
  let test: TestServer;
  before(async () => {
    test = await startTestServer({ apiKeys: [KEY], limits: { ...testConfig.limits, texts: MAX_TEXTS } });
  });
  after(() => test.server.close());
  return {
    get url() {
      return test.url;
    },
    async embed(inputs, options = {}) {
      const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${KEY}` };
      const { body } = await post(`${test.url}/embed`, { inputs, ...options }, headers);
      return asFloat32(body as number[][]);
    },
  };
}

/** One form writes a float32 in as few digits as tell it from others, another one its bits. */
export function asFloat32(vectors: readonly number[][]): number[][] {
  return vectors.map((vector) => vector.map(Math.fround));
}
