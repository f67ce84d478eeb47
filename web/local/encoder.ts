import { key } from '../api/key.js';
import type { FromWorker, ServedModel, ToWorker } from './messages.js';

export interface LocalVector {
  vector: Float32Array;
  /** From the text to the vector. */
  ms: number;
}

export interface LoadState {
  /** Bytes. */
  loaded: number;
  total: number;
  ready: boolean;
  failed?: { message: string; unauthorized: boolean };
}

export const NOT_LOADED: LoadState = Object.freeze({ loaded: 0, total: 0, ready: false });

interface Waiting {
  resolve(vector: LocalVector): void;
  reject(error: Error): void;
}

/** The served model in a worker of this page. transformers.js is loaded with the worker, and not before. */
export class LocalEncoder {
  private readonly worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  private readonly waiting = new Map<number, Waiting>();
  private state = NOT_LOADED;
  private calls = 0;

  constructor(model: ServedModel, onChange: (state: LoadState) => void) {
    const change = (changed: Partial<LoadState>): void =>
      onChange((this.state = { ...this.state, ...changed }));
    this.worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => {
      if ('call' in data) this.answer(data);
      else if ('failed' in data)
        change({ failed: { message: data.failed, unauthorized: data.unauthorized } });
      else change(data);
    });
    this.worker.addEventListener('error', () =>
      change({
        failed: {
          message: 'The program to run the model did not start; reload the page.',
          unauthorized: false,
        },
      }),
    );
    this.send({ load: model, key: key.value });
  }

  embed(text: string): Promise<LocalVector> {
    const call = ++this.calls;
    return new Promise((resolve, reject) => {
      this.waiting.set(call, { resolve, reject });
      this.send({ embed: text, call });
    });
  }

  close(): void {
    this.worker.terminate();
  }

  private send(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private answer(answer: Extract<FromWorker, { call: number }>): void {
    const waiting = this.waiting.get(answer.call)!;
    this.waiting.delete(answer.call);
    if ('error' in answer) waiting.reject(new Error(answer.error));
    else waiting.resolve(answer);
  }
}
