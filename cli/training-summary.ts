import type { FinetuneResult } from '../trainer/finetune.js';
import { adaptationEffect, beforeAndAfter, intervalOf, percent } from '../trainer/report/verdict.js';
import { secondsOf, sentencesPerSecond, tokensOf, tokensPerSecond } from '../trainer/throughput.js';

/** What the command prints at its end. */
export function textSummary({ status, run, step, report }: FinetuneResult, out: string): string {
  if (status === 'interrupted')
    return `stopped after step ${step} of ${run.start.steps}; go on with the same command and --resume\nreport: ${report}`;
  const { start, adapted } = run;
  const weights = start.steps > 0 ? `step ${step} of ${start.steps}` : start.base.name;
  const behind = adapted
    ? `, with ${adapted.adaptation} behind them (${adapted.dimensions} dimensions of ${start.base.dimensions}, ${percent(adapted.variance)} % of the variance)`
    : '';
  const lines = [
    status === 'finished'
      ? `wrote ${out}: the weights of ${weights}${behind}`
      : `wrote nothing: what came of it is not better than the start, beyond chance (--keep-if-better)`,
  ];
  const compared = beforeAndAfter(run);
  if (!compared.after) lines.push('not evaluated: --eval says whether it helped');
  compared.after?.forEach(({ spec, primary, metrics }, i) => {
    const before = compared.before![i].metrics[primary];
    const after = metrics[primary];
    const difference = run.end?.differences?.find((found) => found.spec === spec);
    const interval = difference ? ` (${intervalOf(difference)})` : '';
    const better = difference ? difference.low > 0 : after > before;
    const verdict = better || i > 0 ? '' : ': no better, keep the encoder you started from';
    lines.push(`${spec} ${primary}: ${percent(before)} before, ${percent(after)} after${interval}${verdict}`);
  });
  if (adapted)
    lines.push(...adapted.comparisons.map((comparison) => `adaptation: ${adaptationEffect(comparison)}`));
  lines.push(`report: ${report}`);
  if (status === 'finished') lines.push(`serve it: sentence-jepa serve --model ${out}`);
  return lines.join('\n');
}

/** The one JSON object of --json. Metrics are fractions. */
export function jsonSummary({ status, run, step, report }: FinetuneResult, out: string): object {
  return {
    status,
    out: status === 'finished' ? out : undefined,
    step,
    steps: run.start.steps,
    preset: run.start.preset,
    recipe: run.start.recipe,
    data: run.start.data,
    adapted: run.adapted,
    ...beforeAndAfter(run),
    differences: run.end?.differences,
    lastLoss: run.steps.at(-1)?.loss,
    seconds: secondsOf(run.steps),
    cpuSeconds: run.end?.cpuSeconds,
    peakMemory: run.end?.peakMemory,
    ...(run.steps.length > 0 && {
      tokens: tokensOf(run.steps),
      tokensPerSecond: tokensPerSecond(run.steps),
      sentencesPerSecond: sentencesPerSecond(run.steps, run.start.recipe),
    }),
    report,
  };
}
