import { answerCalls } from '../threads.js';
import { checkAtStart } from './inspect.js';

/** Checks a database beside the thread that reads it. */
const handlers = {
  check(file: string): void {
    checkAtStart(file);
  },
};

export type CheckHandlers = typeof handlers;

answerCalls(handlers);
