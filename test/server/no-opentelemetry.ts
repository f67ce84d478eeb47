import { register } from 'node:module';

/** `node --import` of this file: a program that runs where OpenTelemetry's packages are not installed. */
const hooks = `export async function resolve(name, context, next) {
  if (!name.startsWith('@opentelemetry/sdk')) return next(name, context);
  throw Object.assign(new Error(name), { code: 'ERR_MODULE_NOT_FOUND' });
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
