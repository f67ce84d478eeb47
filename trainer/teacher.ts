import { UserError } from '../base/errors.js';
import { cacheFolder } from '../base/paths.js';
import type { EncodeOptions, Encoder } from '../encoder/encoder.js';
import { openEncoder, type OnnxEncoder } from '../encoder/open-encoder.js';
import { normalizeRows } from '../encoder/pooling.js';
import type { Targets } from './feed.js';
import { product } from './matrix.js';
import type { Ops } from './tensorflow/ops.js';
import { principalDirections } from './tensorflow/principal.js';
import { VectorCache } from './vector-cache.js';

/** Vectors that tell in which directions a teacher's lie. */
const SAMPLE = 16_384;

/**
 * The encoder whose vectors a student learns. A text is encoded once: its vector is kept in the cache folder, by
 * the teacher's fingerprint and the text's digest, for this run and every later one.
 */
export class Teacher {
  readonly name: string;
  readonly fingerprint: string;
  /** Length of a vector. */
  readonly dimensions: number;
  private prepared: string[] = [];
  /** Until the texts are encoded. */
  private encoder?: OnnxEncoder;

  private constructor(
    encoder: OnnxEncoder,
    private readonly cache: VectorCache,
  ) {
    this.encoder = encoder;
    this.name = encoder.name;
    this.fingerprint = encoder.fingerprint;
    this.dimensions = encoder.dimensions;
  }

  /**
   * @param model a model folder, or the name of a model
   * @throws UserError as openEncoder and VectorCache.open
   */
  static async open(model: string, options: { threads?: number }): Promise<Teacher> {
    const encoder = await openEncoder(model, options);
    try {
      const folder = cacheFolder('teachers', encoder.fingerprint);
      return new Teacher(encoder, await VectorCache.open(folder, encoder.dimensions));
    } catch (error) {
      await encoder.close();
      throw error;
    }
  }

  /**
   * Encodes the texts that are not in the cache yet. Not behind `release`.
   *
   * @throws UserError `unavailable` when it was stopped
   */
  async prepare(texts: ReadonlySet<string>, options: EncodeOptions = {}): Promise<void> {
    this.prepared = [...texts];
    const encode: Encoder['encode'] = async (segment, encodeOptions) => {
      const vectors = await this.encoder!.encode(segment, encodeOptions);
      normalizeRows(vectors, this.dimensions);
      return vectors;
    };
    await this.cache.fill(texts, encode, options).catch((error: unknown) => {
      if (!options.signal?.aborted) throw error;
      throw new UserError(
        'unavailable',
        'stopped while the teacher encoded the texts; what was finished is kept, and the same command goes on from there',
      );
    });
  }

  /** Gives the encoder's memory back, when all texts are prepared. */
  async release(): Promise<void> {
    await this.encoder?.close();
    this.encoder = undefined;
  }

  /** @returns vectors of prepared texts, each of length 1: [texts, d] */
  async read(texts: readonly string[]): Promise<Float32Array> {
    return this.cache.read(texts);
  }

  /** @throws UserError `usage` for a student whose vectors would be longer than the teacher's */
  expectRoomFor(dimensions: number): void {
    const wide = this.dimensions;
    if (dimensions > wide)
      throw new UserError(
        'usage',
        `expected a student whose vectors are at most as long as the teacher's ${wide}, found ${dimensions}; --student hidden=${wide} is possible`,
      );
  }

  /**
   * What a student with vectors of `dimensions` is to learn of the prepared texts. A shorter vector is the teacher's
   * in the directions in which its vectors lie most: of all projections to that length it keeps most of the cosines.
   *
   * @throws UserError `usage` when the student's vectors are longer
   */
  async targets(ops: Ops, dimensions: number): Promise<Targets> {
    const wide = this.dimensions;
    this.expectRoomFor(dimensions);
    if (dimensions === wide) return (texts) => this.cache.read(texts);
    const sample = await this.cache.read(this.prepared.slice(0, SAMPLE));
    const directions = principalDirections(ops, sample, wide, dimensions);
    return async (texts) => {
      const vectors = await this.cache.read(texts);
      const targets = product(vectors, directions, texts.length, wide, dimensions);
      normalizeRows(targets, dimensions);
      return targets;
    };
  }

  async close(): Promise<void> {
    await this.cache.close();
    await this.release();
  }
}
