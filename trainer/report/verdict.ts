import type { Difference, EvaluationEntry, Run } from '../run-log.js';

type EvaluationResult = EvaluationEntry['results'][number];

/** What was measured, without the figures of each query. */
export type Measured = Omit<EvaluationResult, 'perQuery' | 'perPair'>;

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
}: Run): Record<'before' | 'after', Measured[] | undefined> {
  const at = (wanted?: number): Measured[] | undefined =>
    evaluations
      .find(({ step }) => step === wanted)
      ?.results.map(({ perQuery: _queries, perPair: _pairs, ...measured }) => measured);
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
    const shown = Math.sign(Number(to) - Number(from));
    const difference = end.differences?.find((found) => found.spec === spec);
    const sign = difference && !beyondChance(difference) ? 0 : shown;
    const moved = `from ${from} to ${to}`;
    const change =
      shown === 0
        ? `stayed at ${from}`
        : sign === 0
          ? `went ${moved}, which may be chance,`
          : `${sign > 0 ? 'rose' : 'fell'} ${moved}`;
    const interval = difference && shown !== 0 ? ` (${intervalOf(difference)})` : '';
    return [{ sign, text: `${primary} ${change} on ${spec}${interval}` }];
  });
  const text = `${changes.map((change) => change.text).join('; ')}.`;
  const all = (sign: number): boolean => changes.every((change) => change.sign === sign);
  if (changes.length === 0)
    return {
      tone: 'open',
      text: 'No evaluation was finished before and after: whether training helped is not known.',
    };
  if (all(1)) return { tone: 'good', text: `Training helped: ${text}` };
  if (all(0))
    return {
      tone: 'open',
      text: end.differences?.length
        ? `Training changed nothing beyond chance: ${text}`
        : `Training changed nothing that was measured: ${text}`,
    };
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

/** Whether 0 lies outside of the 95 % interval. */
export function beyondChance({ low, high }: Difference): boolean {
  return low > 0 || high < 0;
}

/** "95 % interval of the difference +0.41 to +1.31", in percent. */
export function intervalOf({ low, high }: Difference): string {
  return `95 % interval of the difference ${signed(low)} to ${signed(high)}`;
}

/** A difference of fractions, as people read it: "+0.41". */
export function signed(fraction: number): string {
  return `${fraction < 0 ? '-' : '+'}${percent(Math.abs(fraction))}`;
}

/** A metric, a fraction, as people read it. */
export function percent(fraction: number): string {
  return Number.isFinite(fraction) ? (100 * fraction).toFixed(2) : '-';
}
