/**
 * Resolves when SIGINT or SIGTERM has come and all is closed. A second signal is impatience and ends the process at once; so does
 * the first before there is anything to finish.
 *
 * @param ready rejects when it can't be begun, and so does what this returns, once all is closed
 */
export function untilStopped(
  ready: Promise<unknown>,
  close: () => Promise<void>,
  { announce }: { announce: () => void },
): Promise<void> {
  return new Promise((resolve, reject) => {
    let stopping = false;
    let isReady = false;
    const stop = (): void => {
      if (stopping || !isReady) process.exit(stopping ? 1 : 0);
      stopping = true;
      announce();
      close().then(resolve, reject);
    };
    process.on('SIGINT', stop).on('SIGTERM', stop);
    ready.then(
      () => (isReady = true),
      (error: unknown) => close().finally(() => reject(error)),
    );
  });
}
