import { UserError } from '../base/errors.js';

/** A file with more broken lines than a handful is refused from this share of its lines on. */
const HANDFUL = 5;
const MOST = 0.05;

/**
 * The lines of one file of training data that can't be read: a few among many are no reason to train on nothing, so
 * they are left out and counted; many say that the file is not what it was taken for.
 */
export class BrokenLines {
  count = 0;
  first?: { line: number; error: UserError };

  /**
   * @param line where it came to light, from 1
   * @param lines how many are lost by it
   */
  add(error: UserError, line: number, lines = 1): void {
    this.count += lines;
    if (!this.first || line < this.first.line) this.first = { line, error };
  }

  /** What `parse` makes of the line; nothing when it is broken. */
  attempt<T>(line: number, parse: () => T): T | undefined {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof UserError && error.kind === 'malformed')) throw error;
      this.add(error, line);
      return undefined;
    }
  }

  /**
   * @param good lines that could be read
   * @returns a sentence for the user; nothing when all could be read
   * @throws the first line's UserError, `malformed`, when they are too many, or all
   */
  conclude(file: string, good: number): string | undefined {
    if (!this.first) return undefined;
    const { count, first } = this;
    const share = count / (count + good);
    if (good === 0 || (count > HANDFUL && share > MOST)) {
      const others = `; ${whole(count)} of ${whole(count + good)} lines are broken, too many to leave out`;
      throw count === 1
        ? first.error
        : new UserError('malformed', `${first.error.message}${others}`, { cause: first.error });
    }
    return `${file}: ${counted(count)} left out, the first is ${first.error.message}`;
  }
}

function counted(count: number): string {
  return count === 1 ? '1 broken line' : `${whole(count)} broken lines`;
}

function whole(count: number): string {
  return count.toLocaleString('en');
}
