import { readFile } from 'node:fs/promises';

const EVERY_MS = 1000;

/**
 * Watches a process's resident memory, where there is a /proc that tells it.
 *
 * @param onExceeded called once, with the bytes
 * @returns what stops watching
 */
export function watchMemory(
  pid: number | undefined,
  limit: number,
  onExceeded: (bytes: number) => void,
): () => void {
  let isOver = false;
  const timer = setInterval(() => {
    void readFile(`/proc/${pid}/status`, 'utf8').then(
      (status) => {
        const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
        if (isOver || kib * 1024 <= limit) return;
        stop();
        onExceeded(kib * 1024);
      },
      () => undefined,
    );
  }, EVERY_MS);
  timer.unref();
  const stop = (): void => {
    isOver = true;
    clearInterval(timer);
  };
  return stop;
}
