/**
 * A seeded generator of uniform numbers: xoshiro128** (Blackman and Vigna 2018), its state filled by
 * SplitMix32 so that neighbouring seeds give unrelated sequences.
 */
export class Random {
  private readonly s: Uint32Array;

  /** @param seeds any number of integers; the sequence depends on all of them and on their order */
  constructor(...seeds: number[]) {
    let h = 0x9e3779b9;
    const mix = (x: number): number => {
      x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
      x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
      return (x ^ (x >>> 15)) >>> 0;
    };
    for (const seed of seeds) {
      h = mix((h + (seed >>> 0)) >>> 0);
      h = mix((h + Math.floor(seed / 2 ** 32) + 0x9e3779b9) >>> 0);
    }
    this.s = new Uint32Array(4);
    for (let i = 0; i < 4; i++) this.s[i] = mix((h + Math.imul(i + 1, 0x9e3779b9)) >>> 0);
    if (this.s.every((word) => word === 0)) this.s[0] = 1;
  }

  /** A uniform integer in 0 .. 2^32 - 1. */
  uint32(): number {
    const s = this.s;
    const x = Math.imul(s[1], 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** A uniform number in [0, 1) with 32 random bits. */
  float(): number {
    return this.uint32() / 2 ** 32;
  }

  /** A uniform integer in 0 .. n - 1, without modulo bias. n in 1 .. 2^32. */
  below(n: number): number {
    const limit = 2 ** 32 - (2 ** 32 % n);
    let x = this.uint32();
    while (x >= limit) x = this.uint32();
    return x % n;
  }

  /** A standard normal number (Box and Muller 1958). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.float()));
    return radius * Math.cos(2 * Math.PI * this.float());
  }

  /** Fisher and Yates, in place. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const held = items[i];
      items[i] = items[j];
      items[j] = held;
    }
    return items;
  }
}
