import type { AdaptEntry, Difference, EvaluationEntry, Run } from '../run-log.js';

type EvaluationResult = EvaluationEntry['results'][number];

/** What was measured, without the figures of each query. */
export type Measured = Omit<EvaluationResult, 'perQuery' | 'perPair'>;

type AdaptComparison = AdaptEntry['comparisons'][number];

/** One evaluation at the steps that matter. */
export interface Comparison {
  spec: string;
  /** The metric that decides. */
  primary: string;
  counts: Record<string, number>;
  /** The base encoder, the exported step, the last one where it is another, and the adapted encoder. */
  columns: { label: string; result: EvaluationResult }[];
}

/** The results of the base encoder, and those of what was exported; nothing for what was not evaluated. */
export function beforeAndAfter({
  evaluations,
  adapted,
  end,
}: Run): Record<'before' | 'after', Measured[] | undefined> {
  const at = (wanted?: number): EvaluationResult[] | undefined =>
    evaluations.find(({ step }) => step === wanted)?.results;
  const before = at(0);
  const after = before && adapted ? adapted.results : at(end?.bestStep);
  const measured = ({ perQuery: _queries, perPair: _pairs, ...rest }: EvaluationResult): Measured => rest;
  return { before: before?.map(measured), after: after?.map(measured) };
}

/** Every evaluation of the run, in the order in which they were given. */
export function comparisons({ start, evaluations, adapted, end }: Run): Comparison[] {
  const last = evaluations.at(-1);
  const steps = new Map([[0, start.student ? 'untrained student' : 'base encoder']]);
  if (last && last.step > 0) steps.set(last.step, `step ${last.step}`);
  const finished = end?.reason === 'finished' && start.steps > 0;
  if (finished) steps.set(end.bestStep, adapted ? `step ${end.bestStep}` : `exported (step ${end.bestStep})`);
  const shown = evaluations
    .filter(({ step }) => steps.has(step))
    .map(({ step, results }) => ({ label: steps.get(step)!, results }));
  if (adapted) shown.push({ label: `exported (${adapted.adaptation})`, results: adapted.results });
  return (last?.results ?? []).map(({ spec, primary, counts }) => ({
    spec,
    primary,
    counts,
    columns: shown.flatMap(({ label, results }) =>
      results.filter((result) => result.spec === spec).map((result) => ({ label, result })),
    ),
  }));
}

/** Whether training helped, in words for somebody who reads nothing else. */
export function verdict(run: Run): { tone: 'good' | 'bad' | 'open'; text: string } {
  const { start, steps, evaluations, end } = run;
  if (end?.reason === 'collapsed')
    return {
      tone: 'bad',
      text: `Training collapsed at step ${end.step}: nearly the same was made of all texts. Nothing was exported; keep the base encoder.`,
    };
  if (!end)
    return {
      tone: 'open',
      text: `The run has not ended: step ${steps.at(-1)?.step ?? 0} of ${start.steps} is done, and nothing is exported. --resume goes on with it.`,
    };
  if (evaluations.length === 0)
    return {
      tone: 'open',
      text: `No evaluation was given (--eval): whether ${whatWasDone(run).toLowerCase()} helped is not known.`,
    };

  const { before, after } = beforeAndAfter(run);
  const changes = (after ?? []).flatMap(({ spec, primary, metrics }) => {
    const earlier = before?.find((result) => result.spec === spec);
    if (!earlier) return [];
    const [from, to] = [percent(earlier.metrics[primary]), percent(metrics[primary])];
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
  const what = whatWasDone(run);
  const all = (sign: number): boolean => changes.every((change) => change.sign === sign);
  if (changes.length === 0)
    return {
      tone: 'open',
      text: 'No evaluation was finished before and after: whether training helped is not known.',
    };
  if (all(1)) return { tone: 'good', text: `${what} helped: ${text}` };
  if (all(0))
    return {
      tone: 'open',
      text: `${what} changed nothing ${end.differences?.length ? 'beyond chance' : 'that was measured'}: ${text}`,
    };
  if (changes.every(({ sign }) => sign <= 0))
    return { tone: 'bad', text: `${what} made it worse: ${text} Keep the base encoder.` };
  return {
    tone: 'open',
    text: `${changes.some(({ sign }) => sign < 0) ? `${what} helped here and hurt there` : `${what} helped in part`}: ${text}`,
  };
}

function whatWasDone({ start, adapted }: Run): string {
  if (start.steps === 0) return 'Adapting';
  return adapted ? 'Training and adapting' : 'Training';
}

/** Which step was exported, and why that one, and what is behind it. */
export function exportedStep(run: Run): string {
  const { start, adapted } = run;
  if (!adapted) return chosenStep(run);
  const { adaptation, texts, dimensions, variance, comparisons } = adapted;
  const fitted = `${adaptation} was fitted on ${texts.toLocaleString('en')} texts: ${dimensions} dimensions instead of ${start.base.dimensions} keep ${percent(variance)} % of the variance.`;
  const what = start.steps === 0 ? 'Nothing was trained.' : chosenStep(run);
  return [what, `Behind the pooling, ${fitted}`, ...comparisons.map(adaptationEffect)].join(' ');
}

/** By how much an adaptation alone changed an evaluation, and whether that is more than chance. */
export function adaptationEffect({ spec, metric, difference, low, high, p }: AdaptComparison): string {
  const chance = low > 0 || high < 0 ? '' : ', no difference beyond chance';
  return `It changes ${metric} on ${spec} by ${signed(difference)}, 95 % interval ${signed(low)} to ${signed(high)}, p = ${p.toPrecision(2)}${chance}.`;
}

function chosenStep({ evaluations, end }: Run): string {
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
