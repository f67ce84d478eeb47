import { messageOf, UserError } from '../../base/errors.js';
import type { Inference } from '../batching/inference.js';
import { checkThreshold } from './checks.js';
import type {
  EmbedMissingOptions,
  GenerationInfo,
  Hit,
  SearchRequest,
  ServedGeneration,
  TrainableCollection,
} from './collection.js';
import { servedNamed } from './served.js';
import type { Generation } from './store.js';

/** An upsert of more documents than this does not hurry. */
export const BULK_DOCUMENTS = 16;
/** Documents embedded and stored at a time at the start: what a killed process does again. */
export const REEMBED_DOCUMENTS = 256;
/** Documents embedded at a time beside requests: each is a moment in which an inference thread is taken. */
export const FOLLOWING_DOCUMENTS = 32;
/** A dropped generation's model goes when requests that began with it have long been answered. */
const CLOSE_AFTER_MS = 60_000;
const RECENT_QUERIES = 256;

/** Which generations a collection answers from, and the models that belong to them, wherever the vectors are. */
export abstract class Serving {
  protected live!: ServedGeneration;
  /** By id, the live one among them. */
  protected readonly loaded = new Map<number, ServedGeneration>();
  /** Prepared and not complete yet: whoever prepared them embeds for them. */
  protected readonly building = new Set<number>();
  protected following: Promise<void> | undefined;
  private isMoreToFollow = false;
  protected readonly closing = new AbortController();
  /** Of dropped generations, while requests may still be computed by them. */
  private readonly leaving = new Set<Inference>();
  private readonly recent: string[] = [];

  constructor(protected readonly log?: (message: string) => void) {}

  /** All that the store has. */
  protected abstract get known(): readonly (Generation & { vectors: number })[];
  abstract search(request: SearchRequest): Promise<Hit[]>;
  abstract embedMissing(served: ServedGeneration, options?: EmbedMissingOptions): Promise<void>;

  served(model?: string): ServedGeneration {
    return model === undefined ? this.live : servedNamed([this.live, ...this.others()], model);
  }

  servedAs(id: number): ServedGeneration {
    const served = this.loaded.get(id);
    if (!served) throw new UserError('not-found', `generation ${id} is not served`);
    return served;
  }

  generations(): GenerationInfo[] {
    return this.known.map(({ job, source, ...generation }) => ({
      ...generation,
      ...(job !== null && { job }),
      ...(source !== null && { source }),
      served: this.loaded.has(generation.id),
    }));
  }

  exchange({ id, model, inference: before }: ServedGeneration, inference: Inference): ServedGeneration {
    const served = { id, model, inference };
    this.loaded.set(id, served);
    if (this.live.id === id) this.live = served;
    this.closeLater(before);
    return served;
  }

  /** No other process has it open, where nothing else is said. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }

  recentQueries(): readonly string[] {
    return this.recent;
  }

  async duplicatesOf(
    text: string,
    options: Parameters<TrainableCollection['duplicatesOf']>[1],
  ): Promise<Hit[]> {
    const threshold = checkThreshold(options.threshold);
    const { k, filter, generation, signal } = options;
    const hits = await this.search({ query: text, k, mode: 'dense', filter, generation, signal });
    return hits.filter(({ score }) => score >= threshold);
  }

  protected remember(query: string): void {
    this.recent.push(query);
    if (this.recent.length > RECENT_QUERIES) this.recent.shift();
  }

  /** Those that are loaded beside the live one. */
  protected others(): ServedGeneration[] {
    return [...this.loaded.values()].filter(({ id }) => id !== this.live.id);
  }

  /** Lets go of a generation that was dropped; never of the live one. */
  protected release(served: ServedGeneration): void {
    if (served.id === this.live.id) return;
    this.loaded.delete(served.id);
    this.building.delete(served.id);
    this.closeLater(served.inference);
  }

  /** Keeps those beside the live one complete, for a rollback. */
  protected follow(): void {
    // What is stored from here on may be missed by what is under way.
    this.isMoreToFollow = this.following !== undefined;
    if (this.following || this.closing.signal.aborted) return;
    const others = this.others().filter(({ id }) => !this.building.has(id));
    if (others.length === 0) return;
    const { signal } = this.closing;
    this.following = (async () => {
      for (const served of others) await this.embedMissing(served, { share: 0.5, signal });
    })()
      .catch((error: unknown) => {
        if (!signal.aborted) this.log?.(`an earlier generation does not follow: ${messageOf(error)}`);
      })
      .finally(() => {
        this.following = undefined;
        if (this.isMoreToFollow) this.follow();
      });
  }

  /** Closes every model but the live one, which is closed by whoever opened it. */
  protected async closeOthers(): Promise<void> {
    const inferences = [...this.others().map(({ inference }) => inference), ...this.leaving];
    this.leaving.clear();
    await Promise.all(inferences.map((inference) => inference.close()));
  }

  private closeLater(inference: Inference): void {
    this.leaving.add(inference);
    setTimeout(() => {
      if (this.leaving.delete(inference)) void inference.close();
    }, CLOSE_AFTER_MS).unref();
  }
}
