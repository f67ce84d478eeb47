import { messageOf, UserError } from '../../base/errors.js';
import type { Inference } from '../batching/inference.js';
import type { GenerationInfo, ServedGeneration, TrainableCollection } from '../search/collection.js';
import type { JobFolders } from './folders.js';
import { hasEnded, jobsIn, type Job } from './job.js';

/** Share of the time in which a generation embeds the collection: the rest is left to requests. */
export const EMBEDDING_SHARE = 0.5;

export interface ModelsOptions {
  collection: TrainableCollection;
  folders: JobFolders;
  /** Loads a model for serving, in the precision of the live one; `background`: by threads that give way. */
  openModel(model: string, options?: { background?: boolean }): Promise<Inference>;
  /** The folder, or the name, of what makes a generation's vectors. */
  modelOf(generation: GenerationInfo): Promise<string>;
  log(message: string): void;
}

/** The models beside the live one: loaded, switched to, and let go of. */
export class Models {
  private readonly stopping = new AbortController();
  /** After a start, until what can be switched to is loaded. */
  private isLoading = false;
  /** Switches, one after another. */
  private switching: Promise<unknown> = Promise.resolve();
  /** Generations whose models are computed by threads that give way. */
  private readonly inBackground = new Set<number>();

  constructor(private readonly options: ModelsOptions) {}

  /**
   * Sent again, it changes nothing more.
   *
   * @param model of several with that name, one that waits, else the live one: `rollback` goes back
   * @throws UserError `not-found` for a model that there is not, `not-ready` while it is loaded after a start, `exists` while
   *   its job goes on
   */
  activate(model: string): Promise<ServedGeneration> {
    return this.alone(() => this.activateNow(this.named(model)));
  }

  /** Back to the model before the live one. @throws UserError `not-found` when there is none */
  rollback(): Promise<ServedGeneration> {
    return this.alone(() => {
      const retired = this.options.collection.generations().find(({ state }) => state === 'retired');
      if (!retired)
        throw new UserError('not-found', 'there is no earlier model to go back to (GET /models lists all)');
      return this.activateNow(retired);
    });
  }

  /** Puts a candidate live that its own job has judged. */
  goLive(candidate: ServedGeneration): Promise<ServedGeneration> {
    return this.alone(() => this.switchTo(candidate));
  }

  /** The model before the live one, and candidates that wait: loaded behind the live one, so that a switch takes no time. */
  async loadOthers(): Promise<void> {
    const { collection, log } = this.options;
    this.isLoading = true;
    try {
      const jobs = await jobsIn(collection);
      for (const generation of collection.generations()) {
        const { model, state, job, served } = generation;
        if (served || this.stopping.signal.aborted) continue;
        const waits = job !== undefined && jobs.find(({ id }) => id === job)?.state === 'done';
        if (state !== 'retired' && !waits) continue;
        try {
          await this.load(generation);
        } catch (error) {
          if (!this.stopping.signal.aborted) log(`${model} can't be switched to: ${messageOf(error)}`);
        }
      }
    } finally {
      this.isLoading = false;
    }
  }

  /**
   * Loads what came of a job, to be given vectors and judged.
   * @param folder where it was trained; elsewhere it comes from where its generation's model is
   * @throws UserError `exists` when it makes the same vectors as another generation's
   */
  async loadCandidate({ id: job }: Job, folder: string | undefined): Promise<ServedGeneration> {
    const { collection, openModel, modelOf } = this.options;
    const known = collection.generations().find((generation) => generation.job === job);
    if (known?.served) return collection.servedAs(known.id);
    const inference = await openModel(folder ?? (await modelOf(known!)), { background: true });
    // Trained once more, after a backup was restored in between.
    if (known && known.fingerprint !== inference.fingerprint) await collection.discard(known.id);
    try {
      const served = await collection.prepare({ inference, job });
      this.inBackground.add(served.id);
      return served;
    } catch (error) {
      await inference.close();
      if (error instanceof UserError && error.kind === 'exists')
        throw new UserError(
          'exists',
          'training changed nothing: of all weights those before the first step were the best on the queries that choose',
        );
      throw error;
    }
  }

  async discardOtherCandidates(job: number): Promise<void> {
    const { collection } = this.options;
    for (const { id, state, job: made } of collection.generations())
      if (state === 'building' && made !== job) await collection.discard(id);
    await this.sweep();
  }

  /** Removes models that no generation and no job under way needs. */
  async sweep(): Promise<void> {
    const { collection, folders } = this.options;
    const generations = collection.generations();
    for (const job of await jobsIn(collection))
      if (hasEnded(job) && !generations.some((generation) => generation.job === job.id))
        await folders.removeModel(job.id);
  }

  async close(): Promise<void> {
    this.stopping.abort();
    await this.switching.catch(() => undefined);
  }

  /** One switch at a time, each of which begins with what the one before has left. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.switching.catch(() => undefined).then(() => this.options.collection.alone(work));
    this.switching = mine;
    return mine;
  }

  private named(model: string): GenerationInfo {
    const { collection } = this.options;
    const generations = collection.generations();
    const named = generations.filter((each) => each.model === model);
    const inState = (wanted: GenerationInfo['state']): GenerationInfo | undefined =>
      named.find(({ state }) => state === wanted);
    const found = inState('building') ?? inState('live') ?? inState('retired');
    if (found) return found;
    const { id } = collection.served(model);
    return generations.find((each) => each.id === id)!;
  }

  private async activateNow(generation: GenerationInfo): Promise<ServedGeneration> {
    const { collection } = this.options;
    const { id, model, job, served } = generation;
    if ((await jobsIn(collection)).some((each) => each.id === job && !hasEnded(each)))
      throw new UserError('exists', `job ${job} has not judged ${model} yet; wait for it, or cancel it`);
    if (served) return this.switchTo(collection.servedAs(id));
    if (this.isLoading)
      throw new UserError('not-ready', `${model} is being loaded since the start; try again in a moment`);
    return this.switchTo(await this.load(generation));
  }

  private async switchTo(generation: ServedGeneration): Promise<ServedGeneration> {
    const served = await this.inForeground(generation);
    await this.options.collection.activate(served, this.stopping.signal);
    this.options.log(`${served.model} is live`);
    await this.sweep();
    return served;
  }

  private async inForeground(served: ServedGeneration): Promise<ServedGeneration> {
    if (!this.inBackground.has(served.id)) return served;
    const { collection, openModel, modelOf } = this.options;
    const known = collection.generations().find(({ id }) => id === served.id)!;
    const inference = await openModel(await modelOf(known));
    this.inBackground.delete(served.id);
    return collection.exchange(served, inference);
  }

  /** @throws UserError `fingerprint-mismatch` when its folder has another model now */
  private async load(generation: GenerationInfo): Promise<ServedGeneration> {
    const { collection, openModel, modelOf } = this.options;
    const { model, fingerprint, job } = generation;
    const inference = await openModel(await modelOf(generation));
    if (inference.fingerprint !== fingerprint) {
      await inference.close();
      throw new UserError('fingerprint-mismatch', `${model}: its model is another one now`);
    }
    const loaded = await collection.prepare({ inference, job });
    await collection.embedMissing(loaded, { share: EMBEDDING_SHARE, signal: this.stopping.signal });
    return loaded;
  }
}
