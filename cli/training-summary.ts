import type { FinetuneResult } from '../trainer/finetune.js';
import type { EvaluationEntry, Run } from '../trainer/run-log.js';
import { secondsOf, sentencesPerSecond, tokensPerSecond } from '../trainer/throughput.js';

/** The evaluation before training, and that of the weights that were exported. */
function beforeAndAfter({ evaluations, end }: Run): [EvaluationEntry, EvaluationEntry] | undefined {
  const before = evaluations.find(({ step }) => step === 0);
  const after = evaluations.find(({ step }) => step > 0 && step === end?.bestStep);
  return before && after && [before, after];
}

/** What the command prints at its end. */
export function textSummary({ status, run, step, report }: FinetuneResult, out: string): string {
  if (status === 'interrupted')
    return `stopped after step ${step} of ${run.start.steps}; go on with the same command and --resume\nreport: ${report}`;
  const lines = [`wrote ${out}: the weights of step ${step} of ${run.start.steps}`];
  const compared = beforeAndAfter(run);
  if (!compared) lines.push('not evaluated: --eval says whether it helped');
  compared?.[1].results.forEach(({ spec, primary, metrics }, i) => {
    const before = compared[0].results[i].metrics[primary];
    const after = metrics[primary];
    const verdict = after > before ? '' : i === 0 ? ': no better, keep the encoder you started from' : '';
    lines.push(`${spec} ${primary}: ${percent(before)} before, ${percent(after)} after${verdict}`);
  });
  lines.push(`report: ${report}`, `serve it: sentence-jepa serve --model ${out}`);
  return lines.join('\n');
}

/** The one JSON object of --json. Metrics are fractions. */
export function jsonSummary({ status, run, step, report }: FinetuneResult, out: string): object {
  const compared = beforeAndAfter(run);
  return {
    status,
    out: status === 'finished' ? out : undefined,
    step,
    steps: run.start.steps,
    preset: run.start.preset,
    recipe: run.start.recipe,
    data: run.start.data,
    before: compared?.[0].results,
    after: compared?.[1].results,
    lastLoss: run.steps.at(-1)?.loss,
    seconds: secondsOf(run.steps),
    tokensPerSecond: tokensPerSecond(run.steps),
    sentencesPerSecond: sentencesPerSecond(run.steps, run.start.recipe.batch),
    report,
  };
}

function percent(fraction: number): string {
  return (100 * fraction).toFixed(2);
}
