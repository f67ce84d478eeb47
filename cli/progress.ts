import { Presets, SingleBar } from 'cli-progress';

/**
 * A bar on stderr, drawn from its first update on; nothing where stderr is no terminal.
 * @param what what is being done: "embedding"
 */
export function progressBar(
  what: string,
  unit: string,
): { update(done: number, total: number): void; stop(): void } {
  if (!process.stderr.isTTY) return { update() {}, stop() {} };
  const bar = new SingleBar(
    {
      format: `${what} {bar} {percentage}% | {value}/{total} ${unit} | {eta_formatted}`,
      stream: process.stderr,
      hideCursor: true,
    },
    Presets.shades_classic,
  );
  let started = false;
  return {
    update(done, total) {
      if (!started) bar.start(total, done);
      else bar.update(done);
      started = true;
    },
    stop() {
      if (started) bar.stop();
    },
  };
}

/** As progressBar, one behind the other, of what is done one after the other. */
export function progressBars(unit: string): {
  update(what: string, done: number, total: number): void;
  stop(): void;
} {
  let current: string | undefined;
  let bar = progressBar('', unit);
  return {
    update(what, done, total) {
      if (what !== current) {
        bar.stop();
        bar = progressBar(what, unit);
        current = what;
      }
      bar.update(done, total);
    },
    stop: () => bar.stop(),
  };
}
