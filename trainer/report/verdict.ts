import type { EvaluationEntry, Run } from '../run-log.js';

export type EvaluationResult = EvaluationEntry['results'][number];

/** One evaluation at the steps that matter. */
export interface Comparison {
  spec: string;
  /** The metric that decides. */
  primary: string;
  counts: Record<string, number>;
  /** The base encoder, the exported step, and the last one where it is another. */
  columns: { label: string; step: number; result: EvaluationResult }[];
}

/** The results before training, and those of the weights that were exported; nothing for what was not evaluated. */
export function beforeAndAfter({
  evaluations,
  end,
}: Run): Record<'before' | 'after', EvaluationResult[] | undefined> {
  const at = (wanted?: number): EvaluationResult[] | undefined =>
    evaluations.find(({ step }) => step === wanted)?.results;
  return { before: at(0), after: at(end?.bestStep) };
}

/** Every evaluation of the run, in the order in which they were given. */
export function comparisons({ start, evaluations, end }: Run): Comparison[] {
  const last = evaluations.at(-1);
  const steps = new Map([[0, start.student ? 'untrained student' : 'base encoder']]);
  if (last && last.step > 0) steps.set(last.step, `step ${last.step}`);
  if (end?.reason === 'finished') steps.set(end.bestStep, `exported (step ${end.bestStep})`);
  const shown = evaluations.filter(({ step }) => steps.has(step));
  return (last?.results ?? []).map(({ spec, primary, counts }) => ({
    spec,
    primary,
    counts,
    columns: shown.flatMap(({ step, results }) =>
      results
        .filter((result) => result.spec === spec)
        .map((result) => ({ label: steps.get(step)!, step, result })),
    ),
  }));
}

/** Whether training helped, in words for somebody who reads nothing else. */
export function verdict(run: Run): { tone: 'good' | 'bad' | 'open'; text: string } {
  const { start, steps, evaluations, end } = run;
  if (end?.reason === 'collapsed')
    return {
      tone: 'bad',
      text: `Training collapsed at step ${end.step}: the encoder was giving all texts nearly the same vector. Nothing was exported; keep the base encoder.`,
    };
  if (!end)
    return {
      tone: 'open',
      text: `The run has not ended: step ${steps.at(-1)?.step ?? 0} of ${start.steps} is done, and nothing is exported. --resume goes on with it.`,
    };
  if (evaluations.length === 0)
    return { tone: 'open', text: 'No evaluation was given (--eval): whether training helped is not known.' };

  const changes = comparisons(run).flatMap(({ spec, primary, columns }) => {
    const before = columns.find(({ step }) => step === 0)?.result.metrics[primary];
    const after = columns.find(({ step }) => step === end.bestStep)?.result.metrics[primary];
    if (before === undefined || after === undefined) return [];
    const [from, to] = [percent(before), percent(after)];
    const sign = Math.sign(Number(to) - Number(from));
    const change = sign === 0 ? `stayed at ${from}` : `${sign > 0 ? 'rose' : 'fell'} from ${from} to ${to}`;
    return [{ sign, text: `${primary} ${change} on ${spec}` }];
  });
  const text = `${changes.map((change) => change.text).join('; ')}.`;
  const all = (sign: number): boolean => changes.every((change) => change.sign === sign);
  if (changes.length === 0)
    return {
      tone: 'open',
      text: 'No evaluation was finished before and after: whether training helped is not known.',
    };
  if (all(1)) return { tone: 'good', text: `Training helped: ${text}` };
  if (all(0)) return { tone: 'open', text: `Training changed nothing that was measured: ${text}` };
  if (changes.every(({ sign }) => sign <= 0))
    return { tone: 'bad', text: `Training made it worse: ${text} Keep the base encoder.` };
  return {
    tone: 'open',
    text: `${changes.some(({ sign }) => sign < 0) ? 'Training helped here and hurt there' : 'Training helped in part'}: ${text}`,
  };
}

/** Which step was exported, and why that one. */
export function exportedStep({ evaluations, end }: Run): string {
  if (end?.reason !== 'finished') return 'Nothing was exported.';
  const deciding = evaluations.at(-1)?.results[0];
  if (!deciding)
    return `Step ${end.bestStep}, the last one, was exported: there was no evaluation to choose by.`;
  const count = evaluations.filter(({ step }) => step > 0).length;
  return count === 1
    ? `Step ${end.bestStep} was exported, the only one that was evaluated.`
    : `Step ${end.bestStep} was exported: of the ${count} that were evaluated it has the highest ${deciding.primary} on ${deciding.spec}. Being chosen by that figure flatters it a little.`;
}

/** A metric, a fraction, as people read it. */
export function percent(fraction: number): string {
  return Number.isFinite(fraction) ? (100 * fraction).toFixed(2) : '-';
}
