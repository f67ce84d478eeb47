import { useState } from 'preact/hooks';

import { api, dataOf, type Schemas } from '../api/client.js';
import { CurlButton } from '../parts/copy-button.js';
import { Failure } from '../parts/notes.js';

const PRESETS = ['context', 'pairs', 'infonce', 'simcse', 'vicreg', 'barlow-twins', 'tsdae'];

/** Texts of a line each; blank lines are none. */
const linesOf = (text: string): string[] => text.split('\n').filter((line) => line.trim() !== '');

export function StartForm({ onStarted }: { onStarted: (id: number) => void }) {
  const [preset, setPreset] = useState(PRESETS[0]);
  const [context, setContext] = useState('');
  const [steps, setSteps] = useState('');
  const [texts, setTexts] = useState('');
  const [activate, setActivate] = useState(false);
  const [error, setError] = useState<string | undefined>(undefined);

  const sent = linesOf(texts);
  const settings = {
    ...(preset === 'context' && context.trim() !== '' && { context: context.trim() }),
    ...(steps !== '' && { maxSteps: Number(steps) }),
  };
  const body: Partial<Schemas['FinetuneRequest']> = {
    preset,
    ...(Object.keys(settings).length > 0 && { settings }),
    ...(sent.length > 0 && { texts: sent }),
    activate: activate ? 'if-better' : 'manual',
  };
  const start = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      // What is left out has a default, which the generated types take for required.
      const job = await dataOf(api.POST('/finetune', { body: body as Schemas['FinetuneRequest'] }));
      setError(undefined);
      onStarted(job.id);
    } catch (failure) {
      setError((failure as Error).message);
    }
  };
  return (
    <form onSubmit={start} aria-label="Start a training">
      <div class="controls">
        <label>
          Preset
          <select value={preset} onChange={(event) => setPreset(event.currentTarget.value)}>
            {PRESETS.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        {preset === 'context' && (
          <label>
            What all texts are about
            <input
              value={context}
              placeholder="Ubuntu"
              onInput={(event) => setContext(event.currentTarget.value)}
            />
          </label>
        )}
        <label>
          Steps at most
          <input
            type="number"
            min="1"
            value={steps}
            placeholder="an epoch"
            onInput={(event) => setSteps(event.currentTarget.value)}
          />
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={activate}
            onChange={(event) => setActivate(event.currentTarget.checked)}
          />
          Activate when it is better
        </label>
      </div>
      <details>
        <summary>Train on other texts than the collection</summary>
        <label>
          A text a line
          <textarea rows={6} value={texts} onInput={(event) => setTexts(event.currentTarget.value)} />
        </label>
      </details>
      {error && <Failure message={error} />}
      <div class="buttons">
        <button type="submit" class="primary">
          Start training
        </button>
        <CurlButton request={{ method: 'POST', path: '/finetune', body }} what="the start of a training" />
      </div>
    </form>
  );
}
