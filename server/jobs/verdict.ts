import type { Judgement, RankingMetrics } from './judge.js';
import type { FinetuneRequest } from './request.js';

/** Fewer queries than this decide nothing. */
export const LEAST_TEST_QUERIES = 20;
/** Below this spread (1 is even) vectors are nearly the same for all texts. */
const LEAST_STD = 0.2;

/** What came of a job. */
export interface Verdict extends Judgement {
  /** activated: it is live. ready: it waits for a person. refused: it was not good enough to activate itself. */
  decision: 'activated' | 'ready' | 'refused';
  reason: string;
}

/** Whether a candidate may go live by itself, and why. */
export function decide(
  judgement: Judgement,
  { activate, margin }: Pick<FinetuneRequest, 'activate' | 'margin'>,
): Pick<Verdict, 'decision' | 'reason'> {
  const { std } = judgement.diagnostics.candidate;
  if (std < LEAST_STD)
    return {
      decision: 'refused',
      reason: `its vectors are nearly the same for all texts (spread ${std.toFixed(2)}; 1 is even)`,
    };
  const { test } = judgement;
  const found = test ? difference(test) : 'there is no held-out feedback to judge by';
  if (activate === 'manual') return { decision: 'ready', reason: `${found}; activating it is left to you` };
  if (!test || test.queries < LEAST_TEST_QUERIES)
    return {
      decision: 'refused',
      reason: `${found}; expected at least ${LEAST_TEST_QUERIES} held-out queries with relevant documents, found ${test?.queries ?? 0}`,
    };
  const isBetter = test.comparison.low > margin;
  return {
    decision: isBetter ? 'activated' : 'refused',
    reason: `${found}; the interval's lower end is ${isBetter ? '' : 'not '}above ${points(margin)}`,
  };
}

function difference({ live, candidate, comparison, queries }: NonNullable<Judgement['test']>): string {
  const { difference, low, high, p } = comparison;
  return `map@100 ${percent(candidate['map@100'])} against ${percent(live['map@100'])} on ${queries} held-out queries: ${points(difference)} (95 % interval ${points(low)} to ${points(high)}, p = ${p.toPrecision(2)})`;
}

/** The verdict for a person to read, as Markdown. */
export function verdictReport(job: number, verdict: Verdict): string {
  const { candidate, live, test, agreement, diagnostics, decision, reason } = verdict;
  const row = (name: string, of: (side: 'live' | 'candidate') => string): string =>
    `| ${name} | ${of('live')} | ${of('candidate')} |`;
  const metric = (name: keyof RankingMetrics): string[] =>
    test ? [row(name, (side) => percent(test[side][name]))] : [];
  return [
    `# Job ${job}: ${candidate} beside ${live}`,
    '',
    `**${decision}**: ${reason}.`,
    '',
    `| | ${live} (live) | ${candidate} |`,
    '|---|---|---|',
    ...metric('map@100'),
    ...metric('mrr@10'),
    ...metric('recall@10'),
    row('spread of the vectors (1: even, 0: collapsed)', (side) => diagnostics[side].std.toFixed(3)),
    row('mean cosine of two documents', (side) => diagnostics[side].meanCosine.toFixed(3)),
    row('effective rank', (side) => diagnostics[side].effectiveRank.toFixed(1)),
    '',
    test
      ? `Measured on ${test.queries} queries of the feedback that nothing was trained on or chosen by, among all documents.`
      : 'There is no held-out feedback: whether it is better nobody has measured. Send some to /feedback.',
    ...(agreement
      ? [
          '',
          `Of the first ten documents both find for ${agreement.queries} ${agreement.of === 'documents' ? "documents' texts" : agreement.of}, ${percent(agreement.overlap)} % are the same.`,
        ]
      : []),
    '',
  ].join('\n');
}

function percent(fraction: number): string {
  return (100 * fraction).toFixed(2);
}

function points(fraction: number): string {
  return `${fraction < 0 ? '' : '+'}${percent(fraction)}`;
}
