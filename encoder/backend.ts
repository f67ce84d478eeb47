import { UserError } from '../base/errors.js';

/** What computes: our kernels for this processor, or ONNX Runtime. */
export const BACKENDS = ['kernels', 'onnxruntime'] as const;
export type Backend = (typeof BACKENDS)[number];

/** `auto`: the kernels, where they are built and the model suits them. */
export const BACKEND_CHOICES = ['auto', ...BACKENDS] as const;
export type BackendChoice = (typeof BACKEND_CHOICES)[number];

/** What SENTENCE_JEPA_BACKEND names, or `auto`. @throws UserError `invalid` for another name */
export function backendOfEnvironment(): BackendChoice {
  const name = process.env.SENTENCE_JEPA_BACKEND || 'auto';
  const found = BACKEND_CHOICES.find((choice) => choice === name);
  if (!found)
    throw new UserError(
      'invalid',
      `SENTENCE_JEPA_BACKEND: expected ${BACKEND_CHOICES.join(', ')}, found ${name}`,
    );
  return found;
}
