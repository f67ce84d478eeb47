import { Presets, SingleBar } from 'cli-progress';

import type { AdaptEntry, EvaluationEntry, RunStart, StepEntry } from '../trainer/run-log.js';
import { secondsOf, sentencesPerSecond } from '../trainer/throughput.js';

/** How often a log without a terminal gets a line. */
const LINE_SECONDS = 30;
/** Steps over which the speed is averaged. */
const WINDOW = 20;

/**
 * Shows a training run on stderr: a bar that moves where it is a terminal, a line now and then where it is not.
 */
export class TrainingProgress {
  private readonly terminal = process.stderr.isTTY === true;
  private bar?: SingleBar;
  private run?: RunStart;
  private recent: StepEntry[] = [];
  private metric = '';
  private lastLine = 0;
  /** Steps so far. */
  private made = 0;

  start(run: RunStart): void {
    this.run = run;
    const examples = run.data.reduce((sum, { count }) => sum + count, 0);
    const { base, teacher, student, adapt } = run;
    if (run.steps === 0) {
      this.note(
        `${base.name} (${base.dimensions} dimensions), ${adapt} to fit, ${examples.toLocaleString('en')} texts`,
      );
      return;
    }
    const whose = teacher?.name === base.name && !student ? 'itself' : teacher?.name;
    const taughtBy = run.recipe.objective === 'distill' ? ` taught by ${whose}` : '';
    this.note(
      `${student ? `a student of ${base.name}` : base.name}${taughtBy} (${run.base.layers} layers, ${run.base.dimensions} dimensions), ${examples.toLocaleString('en')} texts or pairs, ` +
        `${run.steps.toLocaleString('en')} steps of ${run.recipe.batch}, preset ${run.preset}, seed ${run.recipe.seed}, ` +
        `TensorFlow ${run.environment.tensorflow} on ${run.environment.threads} threads`,
    );
  }

  step(entry: StepEntry): void {
    this.made = entry.step;
    this.recent = [...this.recent, entry].slice(-WINDOW);
    const text = this.describe(entry);
    if (this.terminal) this.draw(entry.step, text);
    else if (entry.step === 1 || performance.now() - this.lastLine > LINE_SECONDS * 1000) {
      this.lastLine = performance.now();
      console.error(`step ${entry.step}/${this.run?.steps} | ${text}`);
    }
  }

  /** The teacher encodes the texts, before the first step. */
  teaching(done: number, total: number): void {
    this.encoding('the teacher encodes the texts', done, total);
  }

  /** The texts are encoded that an adaptation is fitted on. */
  adapting(done: number, total: number): void {
    this.encoding('encoding the texts to adapt to', done, total);
  }

  private encoding(what: string, done: number, total: number): void {
    const text = `${what}: ${done.toLocaleString('en')} of ${total.toLocaleString('en')}`;
    if (this.terminal) process.stderr.write(`\r\x1b[K${text}${done === total ? '\n' : ''}`);
    else if (done === total || performance.now() - this.lastLine > LINE_SECONDS * 1000) {
      this.lastLine = performance.now();
      console.error(text);
    }
  }

  evaluating(spec: string, done: number, total: number): void {
    // Without steps there is no bar to write into.
    if (this.run!.steps === 0) this.encoding(`evaluating ${spec}`, done, total);
    else if (this.terminal) this.draw(this.made, `evaluating ${spec}: ${Math.floor((100 * done) / total)}%`);
  }

  adapted({ adaptation, texts, results }: AdaptEntry): void {
    if (results.length > 0)
      this.note(
        `with ${adaptation}, fitted on ${texts.toLocaleString('en')} texts: ${describeResults(results)}`,
      );
  }

  evaluation({ step, results }: EvaluationEntry): void {
    const [{ primary, metrics }] = results;
    this.metric = `${primary} ${(100 * metrics[primary]).toFixed(2)}`;
    this.note(
      `${step > 0 ? `step ${step}` : this.run?.steps === 0 ? 'before' : 'before training'}: ${describeResults(results)}`,
    );
  }

  /** A line that stays. */
  note(text: string): void {
    if (this.bar) {
      // The bar's line is taken away, and drawn again under the note.
      process.stderr.write('\r\x1b[K');
      console.error(text);
      this.bar.render();
    } else console.error(text);
  }

  stop(): void {
    this.bar?.stop();
    this.bar = undefined;
  }

  private describe({ loss, terms, std }: StepEntry): string {
    const speed = sentencesPerSecond(this.recent, this.run!.recipe);
    const named = Object.entries(terms).map(([name, value]) => `${name.slice(0, 3)} ${digits(value)}`);
    return [
      `loss ${digits(loss)} (${named.join(' ')})`,
      `std ${std.toFixed(2)}`,
      ...(this.metric ? [this.metric] : []),
      `${speed.toFixed(0)} sentences/s`,
    ].join(' | ');
  }

  private draw(step: number, text: string): void {
    const payload = { text, left: this.left(step) };
    if (!this.bar) {
      this.bar = new SingleBar(
        {
          format: '{bar} {value}/{total} | {left}{text}',
          stream: process.stderr,
          hideCursor: true,
          barsize: 20,
        },
        Presets.shades_classic,
      );
      this.bar.start(this.run!.steps, step, payload);
    } else this.bar.update(step, payload);
  }

  /** Of the steps alone, by the recent ones: cli-progress would count evaluations in. */
  private left(step: number): string {
    if (this.recent.length === 0) return '';
    const seconds = ((this.run!.steps - step) * secondsOf(this.recent)) / this.recent.length;
    return seconds < 90 ? `${Math.ceil(seconds)} s left | ` : `${Math.ceil(seconds / 60)} min left | `;
  }
}

function describeResults(results: EvaluationEntry['results']): string {
  return results
    .map(
      ({ spec, primary, metrics, diagnostics }) =>
        `${spec} ${primary} ${(100 * metrics[primary]).toFixed(2)} (std ${diagnostics.std.toFixed(2)}, effective rank ${diagnostics.effectiveRank.toFixed(0)})`,
    )
    .join('; ');
}

/** Two decimals, or three of what is small. */
function digits(value: number): string {
  return value.toFixed(Math.abs(value) < 1 ? 3 : 2);
}
