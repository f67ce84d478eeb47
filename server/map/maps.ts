import { messageOf, UserError } from '../../base/errors.js';
import type { ServedGeneration } from '../search/collection.js';
import { Thread } from '../threads.js';
import type { MapHandlers, MapOf, MapPoints, MapState, ProgressEvent } from './worker.js';

export type MapStatus =
  | ({ state: 'none' | 'ready' | 'stale' } & Omit<MapState, 'stale'>)
  /** With the map there was before, or the draft of a first one. */
  | ({ state: 'building'; progress: number } & Omit<MapState, 'stale'>)
  | { state: 'failed'; error: string };

/**
 * Maps of the collection in two dimensions, one for a generation, kept beside its index. They are made one at a time in a
 * thread that gives way to requests, and read in another one.
 */
export class Maps {
  private building: { generation: number; progress: number; thread: Thread<MapHandlers> } | undefined;
  private readonly failed = new Map<number, string>();
  private reader: Thread<MapHandlers> | undefined;
  private closed = false;

  /** @param dataDir undefined where the collection is not in a folder of this machine's: there are no maps of it */
  constructor(
    private readonly dataDir: string | undefined,
    private readonly log?: (message: string) => void,
  ) {}

  async status(generation: ServedGeneration): Promise<MapStatus> {
    const building = this.building?.generation === generation.id ? this.building : undefined;
    const error = this.failed.get(generation.id);
    if (error !== undefined) return { state: 'failed', error };
    const of = this.of(generation);
    const { stale, ...known } = await this.readingThread().call('state', of);
    if (building) return { state: 'building', progress: building.progress, ...known };
    // A draft that nobody goes on with, since a server was stopped, is no map.
    if (!known.map?.layouts.includes('umap')) return { state: 'none', since: 0 };
    return { state: stale ? 'stale' : 'ready', ...known };
  }

  /**
   * Has a map made, in place of the one there is once it is done; nothing more when that is under way.
   *
   * @param others on whose maps it is laid, so that the two can be compared
   * @throws UserError `exists` while another one is made
   */
  start(generation: ServedGeneration, others: readonly number[]): void {
    this.checkOpen();
    if (this.building?.generation === generation.id) return;
    if (this.building)
      throw new UserError(
        'exists',
        `the map of generation ${this.building.generation} is being made; send the request again when it is done`,
      );
    const of = this.of(generation);
    const thread = this.startThread((progress) => {
      if (this.building) this.building.progress = progress;
    });
    this.building = { generation: generation.id, progress: 0, thread };
    this.failed.delete(generation.id);
    void thread
      .call('build', { ...of, others })
      .catch((error: unknown) => {
        if (this.closed) return;
        this.failed.set(generation.id, messageOf(error));
        this.log?.(`the map of ${generation.model} could not be made: ${messageOf(error)}`);
      })
      .finally(() => {
        this.building = undefined;
        return thread.terminate();
      });
  }

  /** Undefined where there is no map. @param field of the metadata whose values are wanted */
  points(generation: ServedGeneration, field?: string): Promise<MapPoints | undefined> {
    const of = this.of(generation);
    return this.readingThread().call('points', { ...of, field });
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([this.building?.thread.terminate(), this.reader?.terminate()]);
  }

  /** @throws UserError `usage` */
  private of({ id, inference: { fingerprint, dimensions } }: ServedGeneration): MapOf {
    if (this.dataDir === undefined)
      throw new UserError('usage', 'there are no maps of a collection on a shared store (--store)');
    return { dataDir: this.dataDir, id, fingerprint, dimensions };
  }

  private checkOpen(): void {
    if (this.closed) throw new UserError('not-ready', 'the server is shutting down');
  }

  private readingThread(): Thread<MapHandlers> {
    this.checkOpen();
    if (!this.reader || this.reader.hasStopped) this.reader = this.startThread();
    return this.reader;
  }

  private startThread(onProgress?: (progress: number) => void): Thread<MapHandlers> {
    return new Thread(new URL('./worker.js', import.meta.url), 'map', {
      onEvent: (event) => onProgress?.((event as ProgressEvent).progress),
    });
  }
}
