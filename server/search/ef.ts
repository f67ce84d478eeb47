/**
 * How many candidates a search through the graph keeps (Malkov and Yashunin 2016, `ef`), from the floor to the bound. With
 * fewer than the floor, questions that are unlike the documents find much less before enough of them were measured.
 */
export const EF_LADDER = Object.freeze([64, 96, 128, 192, 256, 384, 512, 768, 1024]);
/** Queries that ef is chosen by. */
export const CHOICE_QUERIES = 200;
/** Of another stored vector, in a query that stands in for one that was asked: a cosine of about 0.93 to the first. */
const MOVED_BY = 0.4;

/** Which ef is the least that holds a recall, by queries whose exact neighbours are known. */
export class EfChoice {
  private readonly recalls = EF_LADDER.map((): number[] => []);

  /** @param recallAt recall@10 of one query at an ef; asked upward until it is 1, as with more it stays that */
  add(recallAt: (ef: number) => number): void {
    let recall = 0;
    EF_LADDER.forEach((ef, i) => {
      if (recall < 1) recall = recallAt(ef);
      this.recalls[i].push(recall);
    });
  }

  /**
   * The least ef whose mean recall reaches the target by a standard error, since these queries are but a sample.
   *
   * @returns undefined when even the highest does not
   */
  least(target: number): { ef: number; recalls: readonly number[] } | undefined {
    const i = this.recalls.findIndex((recalls) => meanLessStandardError(recalls) >= target);
    return i < 0 ? undefined : { ef: EF_LADDER[i], recalls: this.recalls[i] };
  }
}

function meanLessStandardError(values: readonly number[]): number {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return mean - Math.sqrt(variance / n);
}

/**
 * A stored vector moved a little towards another: length 1. Vectors moved in any direction leave the space that texts lie in,
 * and are found too easily; between two far apart a search may end at the other one, as it does not with questions. Over 100,000 titles
 * and commands ef 64, 128, 256 found 0.990, 0.996, 0.998 of what 500 of them were nearest to, 0.960, 0.971, 0.985 of vectors moved by a
 * half, and 0.986, 0.992, 0.996 of those moved by this.
 *
 * @param by how much of the other
 */
export function movedALittle(vector: Float32Array, towards: Float32Array, by = MOVED_BY): Float32Array {
  const moved = vector.map((x, i) => x + by * towards[i]);
  const length = Math.hypot(...moved);
  return length > 0 ? moved.map((x) => x / length) : vector;
}
