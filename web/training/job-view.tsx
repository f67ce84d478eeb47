import { useMemo, useState } from 'preact/hooks';

import { api, dataOf } from '../api/client.js';
import { useAnswer } from '../api/use-answer.js';
import { Failure, Loading } from '../parts/notes.js';
import { Chart, type Series } from './chart.js';
import { hasEnded, useJobEvents, type LogEntry } from './events.js';
import { Verdict } from './verdict.js';

/** The curves that a log has points for. */
function curvesOf(log: readonly LogEntry[]): { title: string; series: Series[] }[] {
  const steps = log.filter(({ type }) => type === 'step');
  const of = (
    entries: readonly LogEntry[],
    label: string,
    value: (entry: LogEntry) => number | undefined,
  ): Series => ({
    label,
    points: entries.flatMap((entry) => {
      const y = value(entry);
      return y === undefined ? [] : [[entry.step ?? 0, y] as const];
    }),
  });
  // Of some recipes most terms are 0 throughout.
  const terms = [...new Set(steps.flatMap((entry) => Object.keys(entry.terms ?? {})))].filter((term) =>
    steps.some((entry) => entry.terms?.[term]),
  );
  const evaluations = log.filter(({ type }) => type === 'evaluation');
  const charts = [
    {
      title: 'Loss',
      series: [
        of(steps, 'loss', (entry) => entry.loss),
        ...(terms.length > 1 ? terms.map((term) => of(steps, term, (entry) => entry.terms?.[term])) : []),
      ],
    },
    { title: 'Spread', series: [of(steps, 'std', (entry) => entry.std)] },
    { title: 'Effective rank', series: [of(steps, 'rank', (entry) => entry.effectiveRank)] },
    {
      title: 'On feedback that chooses',
      series: [of(evaluations, 'map@100', (entry) => entry.results?.[0]?.metrics['map@100'])],
    },
  ];
  return charts.filter(({ series }) => series[0].points.length > 0);
}

function timeLeft(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}

export function JobView({ id, onEnded }: { id: number; onEnded: () => void }) {
  const { job, log, error } = useJobEvents(id);
  const [refused, setRefused] = useState<string | undefined>(undefined);
  const curves = useMemo(() => curvesOf(log), [log]);
  const ended = job !== undefined && hasEnded(job);
  const report = useAnswer(
    job?.state === 'done'
      ? (signal) =>
          dataOf(
            api.GET('/finetune/{id}/report', {
              params: { path: { id } },
              headers: { Accept: 'text/markdown' },
              parseAs: 'text',
              signal,
            }),
          )
      : undefined,
    [id, job?.state],
  );
  const cancel = async (): Promise<void> => {
    try {
      await dataOf(api.DELETE('/finetune/{id}', { params: { path: { id } } }));
      onEnded();
    } catch (failure) {
      setRefused((failure as Error).message);
    }
  };
  return (
    <section aria-label={`Job ${id}`}>
      <div class="bar">
        <h2>
          Job {id}: <span role="status">{job?.state ?? '…'}</span>
        </h2>
        {job && !ended && (
          <button type="button" onClick={cancel}>
            Cancel
          </button>
        )}
      </div>
      {(error ?? refused ?? job?.error) && <Failure message={(error ?? refused ?? job?.error)!} />}
      {!job && !error && <Loading what="the job" />}
      {job?.training && (
        <label>
          Step {job.training.step} of {job.training.steps}
          {job.training.seconds_left !== undefined && `, ${timeLeft(job.training.seconds_left)} left`}
          <progress value={job.training.step} max={job.training.steps} />
        </label>
      )}
      {job?.embedding && !ended && (
        <label>
          Embedding {job.embedding.done} of {job.embedding.total} documents
          <progress value={job.embedding.done} max={job.embedding.total} />
        </label>
      )}
      <div class="charts">
        {curves.map((chart) => (
          <Chart key={chart.title} {...chart} />
        ))}
      </div>
      {job?.verdict && <Verdict verdict={job.verdict} />}
      {report.data && (
        <details>
          <summary>Report</summary>
          <pre tabIndex={0}>{report.data}</pre>
        </details>
      )}
    </section>
  );
}
