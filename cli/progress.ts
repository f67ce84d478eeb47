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
