import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Objects by key of one bucket, behind HTTP as S3 speaks it: PUT and GET of /BUCKET/KEY, signed (AWS Signature Version 4). */
export interface S3Server {
  /** For AWS_ENDPOINT_URL_S3. */
  url: string;
  objects: Map<string, Buffer>;
  /** Requests that were answered, as "PUT key". */
  requests: string[];
  /** Answers this request in another way: with a status and S3's code, or with a part of the bytes and then no more. */
  fail?: (request: string) => { status: number; code: string } | { cutAt: number } | undefined;
  close(): Promise<void>;
}

export const CREDENTIALS = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/secret' };

export async function startS3(bucket: string): Promise<S3Server> {
  const objects = new Map<string, Buffer>();
  const requests: string[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const { pathname } = new URL(request.url!, 'http://s3');
    const refuse = (status: number, code: string): void => {
      response.writeHead(status, { 'Content-Type': 'application/xml' });
      response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`);
    };
    const [, named, ...segments] = pathname.split('/').map(decodeURIComponent);
    const key = segments.join('/');
    const wrong = wrongWithSignature(request, body);
    if (wrong) return refuse(403, wrong);
    if (named !== bucket) return refuse(404, 'NoSuchBucket');
    requests.push(`${request.method} ${key}`);
    const failure = server.fail?.(`${request.method} ${key}`);
    if (failure && 'code' in failure) return refuse(failure.status, failure.code);
    if (request.method === 'PUT') {
      objects.set(key, body);
      response.end();
      return;
    }
    const object = objects.get(key);
    if (!object) return refuse(404, 'NoSuchKey');
    response.writeHead(200, { 'Content-Length': object.length });
    if (failure) response.write(object.subarray(0, failure.cutAt), () => response.destroy());
    else response.end(object);
  };
  const http = createServer((request, response) => void answer(request, response)).listen(0, '127.0.0.1');
  await once(http, 'listening');
  const server: S3Server = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    objects,
    requests,
    async close() {
      http.closeAllConnections();
      http.close();
      await once(http, 'close');
    },
  };
  return server;
}

/** As AWS documents how a request is signed. @returns S3's code for what is wrong */
function wrongWithSignature(request: IncomingMessage, body: Buffer): string | undefined {
  const { headers, method } = request;
  const [, keyId, date, region, signed, signature] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)$/.exec(
      headers.authorization ?? '',
    ) ?? [];
  if (keyId !== CREDENTIALS.accessKeyId) return 'InvalidAccessKeyId';
  const payload = headers['x-amz-content-sha256'] as string;
  // What is streamed may stay out of the signature.
  if (payload !== 'UNSIGNED-PAYLOAD' && payload !== sha256(body)) return 'XAmzContentSHA256Mismatch';
  const url = new URL(request.url!, 'http://s3');
  url.searchParams.sort();
  const lines = signed.split(';').map((name) => `${name}:${String(headers[name]).trim()}\n`);
  const query = [...url.searchParams].map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
  const canonical = [method, url.pathname, query, lines.join(''), signed, payload].join('\n');
  const scope = `${date}/${region}/s3/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(canonical)].join('\n');
  const key = [date, region, 's3', 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${CREDENTIALS.secretAccessKey}`,
  );
  const expected = createHmac('sha256', key).update(toSign).digest('hex');
  return signature === expected ? undefined : 'SignatureDoesNotMatch';
}

function sha256(content: string | Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}
