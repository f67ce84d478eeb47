import { UserError } from '../base/errors.js';
import type { BertConfig } from '../encoder/bert.js';

/** What a student is to be, next to the encoder that it is made from (its source). */
export interface StudentShape {
  layers: number;
  hidden: number;
  heads: number;
  intermediate: number;
  /** Tokens of the vocabulary, at most. */
  vocab: number;
  /** `source`: first weights are cut out of the source's; `random`: drawn anew. */
  init: 'source' | 'random';
  /** The source's layers, from 0, that the student's begin as. */
  take: number[];
  /** `pruned`: tokens of the source's vocabulary; `trained`: learned on the data. */
  vocabulary: 'pruned' | 'trained';
}

const SIZES = ['layers', 'hidden', 'heads', 'intermediate', 'vocab'] as const;
const CHOICES = { init: ['source', 'random'], vocabulary: ['pruned', 'trained'] } as const;

/** How --student is written, for --help. */
export const STUDENT_KEYS = [...SIZES, 'take', ...Object.keys(CHOICES)];

/**
 * Reads `layers=4,hidden=256,heads=8,intermediate=1024,vocab=16000,take=0+2+3+5,init=source,vocabulary=pruned`. What
 * is left out is the source's: its sizes, as many heads as give heads of its size, layers spread evenly over its own.
 *
 * @param source the encoder that the student is made from
 * @throws UserError `usage`
 */
export function parseStudentShape(text: string, source: BertConfig): StudentShape {
  const given = new Map<string, string>();
  for (const part of text.split(',')) {
    const [, key, value] = /^\s*([a-z]+)=(.+?)\s*$/.exec(part) ?? [];
    if (key === undefined || !STUDENT_KEYS.includes(key))
      throw fail(`key=value, key one of ${STUDENT_KEYS.join(', ')}`, part.trim());
    if (given.has(key)) throw fail(`${key} once`, text);
    given.set(key, value);
  }
  const size = (key: (typeof SIZES)[number], fallback: number, most = Infinity): number => {
    const value = Number(given.get(key) ?? fallback);
    if (!Number.isInteger(value) || value < 1 || value > most)
      throw fail(
        `${key}: a whole number from 1 ${most < Infinity ? `to ${most}` : 'up'}`,
        given.get(key) ?? value,
      );
    return value;
  };
  const choice = <K extends keyof typeof CHOICES>(key: K): (typeof CHOICES)[K][number] => {
    const value = given.get(key) ?? CHOICES[key][0];
    const found = CHOICES[key].find((candidate) => candidate === value);
    if (!found) throw fail(`${key}: ${CHOICES[key].join(' or ')}`, value);
    return found;
  };

  const init = choice('init');
  // Nothing can be cut out that is not there.
  const most = (sourceSize: number): number => (init === 'source' ? sourceSize : Infinity);
  const layers = size('layers', source.layers, most(source.layers));
  const hidden = size('hidden', source.hiddenSize, most(source.hiddenSize));
  const headSize = source.hiddenSize / source.heads;
  const heads = size('heads', hidden % headSize === 0 ? hidden / headSize : source.heads);
  if (hidden % heads !== 0) throw fail(`hidden to be a multiple of heads`, `${hidden} and ${heads}`);
  if (init === 'source' && (heads > source.heads || hidden / heads > headSize))
    throw fail(
      `at most ${source.heads} heads of ${headSize} to cut out of the source (or init=random)`,
      `${heads} of ${hidden / heads}`,
    );
  const take = (given.get('take')?.split('+') ?? spread(layers, source.layers)).map(Number);
  if (
    take.length !== layers ||
    take.some((layer) => !Number.isInteger(layer) || layer < 0 || layer >= source.layers)
  )
    throw fail(
      `take: ${layers} of the source's layers 0 to ${source.layers - 1}, with + between`,
      given.get('take') ?? take.join('+'),
    );
  return {
    layers,
    hidden,
    heads,
    intermediate: size('intermediate', source.intermediateSize, most(source.intermediateSize)),
    vocab: size('vocab', source.vocabSize),
    init,
    take,
    vocabulary: choice('vocabulary'),
  };
}

/** n of 0..of-1, the first and the last among them. */
function spread(n: number, of: number): number[] {
  return Array.from({ length: n }, (_, i) => (n === 1 ? of - 1 : Math.round((i * (of - 1)) / (n - 1))));
}

function fail(expected: string, found: string | number): UserError {
  return new UserError('usage', `--student: expected ${expected}, found "${found}"`);
}
