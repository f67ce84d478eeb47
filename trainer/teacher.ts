import { UserError } from '../base/errors.js';
import { cacheFolder } from '../base/paths.js';
import type { EncodeOptions, Encoder } from '../encoder/encoder.js';
import { fingerprintOf } from '../encoder/fingerprint.js';
import { weightsIn } from '../encoder/graph-file.js';
import { dimensionsOf, loadWeights, openModelFolder, type ModelFolder } from '../encoder/model-folder.js';
import { openEncoder } from '../encoder/open-encoder.js';
import { normalizeRows } from '../encoder/pooling.js';
import { resolveModel } from '../encoder/resolve.js';
import { loadTokenizer } from '../encoder/tokenizer.js';
import type { Targets } from './feed.js';
import { product } from './matrix.js';
import { openCompiler } from './tensorflow/compiler.js';
import { FrozenBert } from './tensorflow/frozen-bert.js';
import type { TF } from './tensorflow/load.js';
import { Ops } from './tensorflow/ops.js';
import { principalDirections } from './tensorflow/principal.js';
import { tensorFlowEncoder } from './tensorflow-encoder.js';
import { VectorCache } from './vector-cache.js';

/** Vectors that tell in which directions a teacher's lie. */
const SAMPLE = 16_384;

interface Computing {
  tf: TF;
  /** Of the run's products. */
  precision: 'fp32' | 'bf16';
  /** Cores. */
  threads: number;
}

/**
 * The encoder whose vectors a student learns. A text is encoded once: its vector is kept in the cache folder, by
 * the teacher's fingerprint, the precision and the text's digest, for this run and every later one.
 */
export class Teacher {
  readonly name: string;
  /** Length of a vector. */
  readonly dimensions: number;
  private prepared: string[] = [];
  private started?: { cache: VectorCache; computing: Computing };
  /** While texts are encoded. */
  private encoder?: Encoder;

  private constructor(
    private readonly folder: ModelFolder,
    readonly fingerprint: string,
  ) {
    this.name = folder.name;
    this.dimensions = dimensionsOf(folder);
  }

  /**
   * Looks at what a teacher is; it encodes only behind `start`.
   *
   * @param model a model folder, or the name of a model
   * @param options.dense false: its vectors are those before its Dense modules
   * @throws UserError as resolveModel, openModelFolder and weightsIn
   */
  static async open(model: string, { dense = true }: { dense?: boolean } = {}): Promise<Teacher> {
    const { dir, name } = await resolveModel(model);
    const opened = await openModelFolder(dir, name);
    const folder = dense ? opened : { ...opened, dense: [] };
    return new Teacher(folder, fingerprintOf(folder, await weightsIn(folder, 'fp32'), 'fp32'));
  }

  /** @throws UserError as VectorCache.open */
  async start(computing: Computing): Promise<void> {
    const { precision } = computing;
    const folder = precision === 'fp32' ? this.fingerprint : `${this.fingerprint}-${precision}`;
    const cache = await VectorCache.open(cacheFolder('teachers', folder), this.dimensions);
    this.started = { cache, computing };
  }

  /**
   * Encodes the texts that are not in the cache yet.
   *
   * @throws UserError `unavailable` when it was stopped; as openEncoder
   */
  async prepare(texts: ReadonlySet<string>, options: EncodeOptions = {}): Promise<void> {
    this.prepared = [...texts];
    const encode: Encoder['encode'] = async (segment, encodeOptions) => {
      this.encoder ??= await this.openEncoder();
      const vectors = await this.encoder.encode(segment, encodeOptions);
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

  /** @throws UserError `usage` for an encoder whose vectors are longer than the teacher's */
  expectRoomFor(dimensions: number): void {
    const wide = this.dimensions;
    if (dimensions > wide)
      throw new UserError(
        'usage',
        `expected an encoder whose vectors are at most as long as the teacher's ${wide}, found ${dimensions}; a new one of that length is made by --student hidden=${wide}`,
      );
  }

  /**
   * What a student with vectors of `dimensions` is to learn of the prepared texts. A shorter vector is the teacher's
   * in the directions in which its vectors lie most: of all projections to that length it keeps most of the cosines.
   */
  async targets(ops: Ops, dimensions: number): Promise<Targets> {
    const wide = this.dimensions;
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
    await this.started?.cache.close();
    await this.release();
  }

  private get cache(): VectorCache {
    if (!this.started) throw new Error('the teacher was not started');
    return this.started.cache;
  }

  /** Where bf16 is faster so is TensorFlow; in fp32 ONNX Runtime is as fast, and takes folders that have a graph alone. */
  private async openEncoder(): Promise<Encoder> {
    const { folder } = this;
    const { tf, precision, threads } = this.started!.computing;
    if (precision === 'fp32' || !folder.weightsFile)
      return openEncoder(folder.dir, { threads, dense: folder.dense.length > 0 });
    const ops = new Ops(tf, precision, openCompiler(tf, precision));
    const bert = new FrozenBert(ops, folder.config, await loadWeights(folder), folder.pooling);
    return {
      ...tensorFlowEncoder(bert, loadTokenizer(folder), folder),
      close: async () => bert.dispose(),
    };
  }
}
