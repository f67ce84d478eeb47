import type { Recipe } from './recipe.js';
import type { LogEntry, StepEntry } from './run-log.js';
import type { TF } from './tensorflow/load.js';
import { sentencesPerSecond, tokensPerSecond } from './throughput.js';

/** The event files of tfjs-node, which its core's types don't know. */
interface WithSummaries {
  node: {
    summaryFileWriter(folder: string, maxQueue: number, flushMillis: number): SummaryWriter;
  };
}

interface SummaryWriter {
  scalar(name: string, value: number, step: number): void;
  flush(): void;
}

/** Scalars that wait before they are written, and for how long. */
const QUEUE = 1000;
const FLUSH_MILLIS = 5000;

/**
 * The run's log as TensorBoard's scalars. A resumed run begins another event file in the same folder;
 * TensorBoard reads them in order, so that steps made twice appear twice.
 */
export class TensorBoard {
  private readonly writer: SummaryWriter;

  /** @param recipe the run's */
  constructor(
    tf: TF,
    folder: string,
    private readonly recipe: Recipe,
  ) {
    this.writer = (tf as TF & WithSummaries).node.summaryFileWriter(folder, QUEUE, FLUSH_MILLIS);
  }

  write(entry: LogEntry): void {
    if (entry.type === 'step') this.scalars(entry.step, scalarsOfStep(entry, this.recipe));
    if (entry.type === 'evaluation') {
      for (const { spec, primary, metrics, diagnostics } of entry.results)
        this.scalars(entry.step, {
          [`evaluation/${spec}/${primary}`]: metrics[primary],
          [`evaluation/${spec}/effective rank`]: diagnostics.effectiveRank,
        });
      this.flush();
    }
  }

  flush(): void {
    this.writer.flush();
  }

  private scalars(step: number, values: Record<string, number>): void {
    for (const [name, value] of Object.entries(values)) this.writer.scalar(name, value, step);
  }
}

function scalarsOfStep(entry: StepEntry, recipe: Recipe): Record<string, number> {
  const terms = Object.entries(entry.terms).map(([name, value]) => [`loss/${name}`, value] as const);
  return {
    'loss/total': entry.loss,
    ...Object.fromEntries(terms),
    ...entry.measures,
    'embeddings/std': entry.std,
    'optimizer/gradient norm': entry.gradientNorm,
    'optimizer/learning rate': entry.learningRate,
    'speed/sentences a second': sentencesPerSecond([entry], recipe),
    'speed/tokens a second': tokensPerSecond([entry]),
  };
}
