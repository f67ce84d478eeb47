import { readFileSync, readdirSync } from 'node:fs';

const TASKS = '/proc/self/task';

/**
 * How long this process's threads have been ready to run and had no core, in milliseconds, all threads together: what grows
 * while other programs have the machine. Linux's own figure (Documentation/scheduler/sched-stats.rst, the second field of
 * /proc/<pid>/schedstat); 0 where there is none. About half a millisecond of reading.
 */
export function msWithoutCore(): number {
  let nanoseconds = 0;
  for (const thread of threads()) nanoseconds += runDelay(thread);
  return nanoseconds / 1e6;
}

function threads(): string[] {
  try {
    return readdirSync(TASKS);
  } catch {
    return [];
  }
}

/** Nanoseconds; 0 for a thread that has ended since. */
function runDelay(thread: string): number {
  try {
    return Number(readFileSync(`${TASKS}/${thread}/schedstat`, 'latin1').split(' ')[1]);
  } catch {
    return 0;
  }
}
