import { useState } from 'preact/hooks';

import { api, dataOf } from '../api/client.js';
import { useAnswer } from '../api/use-answer.js';
import { useRefresh } from '../api/use-refresh.js';
import { Empty, Failure, Loading } from '../parts/notes.js';
import { hasEnded } from './events.js';
import { JobView } from './job-view.js';
import { Models } from './models.js';
import { StartForm } from './start-form.js';

const REFRESH_MS = 2000;

export function TrainingPage() {
  const [tries, setTries] = useState(0);
  const [chosen, setChosen] = useState<number | undefined>(undefined);
  const refresh = (): void => setTries((n) => n + 1);
  const { data, error, loading } = useAnswer(
    async (signal) => {
      const [{ jobs }, { models }, feedback] = await Promise.all([
        dataOf(api.GET('/finetune', { signal })),
        dataOf(api.GET('/models', { signal })),
        dataOf(api.GET('/feedback', { signal })),
      ]);
      return { jobs, models, feedback };
    },
    [tries],
  );
  const server = useAnswer((signal) => dataOf(api.GET('/info', { signal })), []);
  useRefresh(loading, refresh, REFRESH_MS);

  const jobs = data?.jobs ?? [];
  const shown = chosen ?? (jobs.find((job) => !hasEnded(job)) ?? jobs.at(-1))?.id;
  return (
    <>
      {(error ?? server.error) && <Failure message={(error ?? server.error)!} />}
      {!data && !error && <Loading what="jobs and models" />}
      {data && (
        <>
          <p>
            {data.feedback.total} judgements of people, {data.feedback.queries.test} questions held out to
            judge models.
            {data.feedback.queries.test === 0 &&
              ' Without feedback no model can be said to be better: say what is a duplicate in Search or Duplicates.'}
          </p>
          {server.data && (
            <StartForm
              presets={server.data.training.presets}
              onStarted={(id) => {
                setChosen(id);
                refresh();
              }}
            />
          )}
          {jobs.length === 0 && (
            <Empty>
              <p>Nothing has been trained yet. Start a training to adapt the model to your texts.</p>
            </Empty>
          )}
          {jobs.length > 1 && (
            <label>
              Job
              <select value={shown} onChange={(event) => setChosen(Number(event.currentTarget.value))}>
                {jobs.map(({ id, state }) => (
                  <option key={id} value={id}>
                    {id} ({state})
                  </option>
                ))}
              </select>
            </label>
          )}
          {shown !== undefined && <JobView key={shown} id={shown} onEnded={refresh} />}
          <Models models={data.models} jobs={jobs} onChanged={refresh} />
        </>
      )}
    </>
  );
}
