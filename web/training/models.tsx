import { useState } from 'preact/hooks';

import { api, dataOf, type Schemas } from '../api/client.js';
import { Failure } from '../parts/notes.js';
import { hasEnded, type Job } from './events.js';

type Model = Schemas['Models']['models'][number];

/** The held-out metric of the job that made a model. */
function metricOf({ job }: Model, jobs: readonly Job[]): string {
  const test = jobs.find(({ id }) => id === job)?.verdict?.test;
  return test ? (100 * test.candidate['map@100']).toFixed(1) : '';
}

/**
 * A server loads what it has not, and refuses a model whose job has yet to judge it. By a name that the live one has as well it
 * takes one that waits; back from the live one leads only "Roll back".
 */
function canActivate({ state, name, job }: Model, models: readonly Model[], jobs: readonly Job[]): boolean {
  if (state === 'live' || jobs.some((each) => each.id === job && !hasEnded(each))) return false;
  return state !== 'retired' || !models.some((each) => each.state === 'live' && each.name === name);
}

/** Generations, and what can be done with them. */
export function Models({
  models,
  jobs,
  onChanged,
}: {
  models: readonly Model[];
  jobs: readonly Job[];
  onChanged: () => void;
}) {
  const [error, setError] = useState<string | undefined>(undefined);
  const act = async (ask: () => Promise<unknown>): Promise<void> => {
    try {
      await ask();
      setError(undefined);
      onChanged();
    } catch (failure) {
      setError((failure as Error).message);
    }
  };
  const activate = (name: string): Promise<void> =>
    act(() => dataOf(api.POST('/models/{name}/activate', { params: { path: { name } } })));
  const canRollBack = models.some(({ state }) => state === 'retired');
  return (
    <section aria-label="Models">
      <div class="bar">
        <h2>Models</h2>
        <button
          type="button"
          disabled={!canRollBack}
          onClick={() => act(() => dataOf(api.POST('/models/rollback')))}
        >
          Roll back
        </button>
      </div>
      {error && <Failure message={error} />}
      <div class="table" tabIndex={0} role="group" aria-label="Models">
        <table>
          <thead>
            <tr>
              {['Generation', 'Name', 'State', 'Vectors', 'Held-out map@100 (%)', 'Made'].map((title) => (
                <th key={title} scope="col">
                  {title}
                </th>
              ))}
              <td />
            </tr>
          </thead>
          <tbody>
            {models.map((model) => (
              <tr key={model.id}>
                <td>{model.id}</td>
                <th scope="row">{model.name}</th>
                <td>{model.state}</td>
                <td>{model.vectors}</td>
                <td>{metricOf(model, jobs)}</td>
                <td>{model.created && new Date(model.created).toLocaleString()}</td>
                <td>
                  {canActivate(model, models, jobs) && (
                    <button type="button" onClick={() => activate(model.name)}>
                      Activate<span class="hidden"> {model.name}</span>
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
