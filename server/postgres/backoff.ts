const FIRST_MS = 1_000;

/** Something that may fail is tried again after a second, then after twice as long each time; until then it fails as it did. */
export class Backoff {
  private waitMs = 0;
  private until = -Infinity;
  private error: unknown;

  /** @param mostMs what it waits at most */
  constructor(
    private readonly mostMs: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  get isWaiting(): boolean {
    return this.now() < this.until;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.isWaiting) throw this.error;
    try {
      const result = await work();
      this.waitMs = 0;
      return result;
    } catch (error) {
      this.error = error;
      this.waitMs = Math.min(this.mostMs, Math.max(FIRST_MS, 2 * this.waitMs));
      this.until = this.now() + this.waitMs;
      throw error;
    }
  }
}
