import { createReadStream } from 'node:fs';

import type * as S3 from '@aws-sdk/client-s3';

import { messageOf, UserError } from '../../base/errors.js';
import type { Objects } from './objects.js';

/**
 * Keys in a bucket of S3 or what speaks like it. Credentials, region and endpoint come from where AWS' own programs take them:
 * AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL_S3, ~/.aws, or the role of the machine or pod.
 *
 * @param store s3://BUCKET/PREFIX
 * @throws UserError `usage`
 */
export async function openS3Objects(store: string): Promise<Objects> {
  const [, bucket, prefix = ''] = /^s3:\/\/([^/]+)(?:\/(.*?))?\/*$/.exec(store) ?? [];
  if (!bucket)
    throw new UserError('usage', `--model-store: expected a folder or s3://BUCKET/PREFIX, came ${store}`);
  const { GetObjectCommand, PutObjectCommand, S3Client } = await library();
  const ownEndpoint = process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL;
  const client = new S3Client({
    // Buckets are names of hosts at AWS alone. A region is part of every signature, and means nothing elsewhere.
    ...(ownEndpoint && { forcePathStyle: true, region: process.env.AWS_REGION ?? 'us-east-1' }),
    // Not everything that speaks S3 knows these checksums, and files carry their own.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // It says in an error what there is to say.
    logger: { debug() {}, info() {}, warn() {}, error() {} },
  });
  const name = `s3://${bucket}${prefix && `/${prefix}`}`;
  const at = (key: string): { Bucket: string; Key: string } => ({
    Bucket: bucket,
    Key: prefix ? `${prefix}/${key}` : key,
  });
  const send = async <T>(key: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw userError(`${name}/${key}`, error);
    }
  };
  return {
    name,
    async put(key, content) {
      const body =
        typeof content === 'string'
          ? { Body: content }
          : { Body: createReadStream(content.file), ContentLength: content.bytes };
      await send(key, () => client.send(new PutObjectCommand({ ...at(key), ...body })));
    },
    async get(key) {
      const { Body } = await send(key, () => client.send(new GetObjectCommand(at(key))));
      return (async function* () {
        try {
          yield* Body as AsyncIterable<Uint8Array>;
        } catch (error) {
          throw userError(`${name}/${key}`, error);
        }
      })();
    },
  };
}

async function library(): Promise<typeof S3> {
  try {
    return await import('@aws-sdk/client-s3');
  } catch (error) {
    throw new UserError(
      'unavailable',
      '--model-store s3://...: expected the package @aws-sdk/client-s3, which npm installs unless optional ones are left out: npm install @aws-sdk/client-s3',
      { cause: error },
    );
  }
}

function userError(what: string, error: unknown): UserError {
  const { name = '', $metadata } = error as { name?: string; $metadata?: { httpStatusCode?: number } };
  const status = $metadata?.httpStatusCode;
  const say = (kind: ConstructorParameters<typeof UserError>[0], words: string): UserError =>
    new UserError(kind, `${what}: ${words}`, { cause: error });
  if (name === 'NoSuchBucket') return say('not-found', 'there is no such bucket');
  if (status === 404) return say('not-found', 'no such object');
  if (status === 401 || status === 403)
    return say(
      'forbidden',
      `no access (${name}); check the credentials (AWS_ACCESS_KEY_ID or the role), and that they may get, and for publishing put, objects there`,
    );
  if (name === 'CredentialsProviderError')
    return say(
      'forbidden',
      `no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a role`,
    );
  return say('unavailable', `${name === 'Error' ? '' : `${name}: `}${messageOf(error) || 'no answer'}`);
}
