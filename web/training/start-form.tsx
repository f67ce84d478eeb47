import { useState } from 'preact/hooks';

import { api, dataOf, type Schemas } from '../api/client.js';
import { CurlButton } from '../parts/copy-button.js';
import { Failure } from '../parts/notes.js';
import { pairsOf, textsOf } from './data-files.js';
import { FileField } from './file-field.js';

/** Those that read the setting `context`. */
const WITH_CONTEXT = ['context', 'surroundings', 'pairs'];

/** @param presets the server's, first what it does without */
export function StartForm({
  presets,
  onStarted,
}: {
  presets: readonly string[];
  onStarted: (id: number) => void;
}) {
  const [preset, setPreset] = useState(presets[0]);
  const [context, setContext] = useState('');
  const [steps, setSteps] = useState('');
  const [texts, setTexts] = useState('');
  const [fileTexts, setFileTexts] = useState<string[]>([]);
  const [pairs, setPairs] = useState<[string, string][]>([]);
  const [activate, setActivate] = useState(false);
  const [error, setError] = useState<string | undefined>(undefined);

  const takesContext = WITH_CONTEXT.includes(preset);
  const sent = [...textsOf('', texts), ...fileTexts];
  const settings = {
    ...(takesContext && context.trim() !== '' && { context: context.trim() }),
    ...(steps !== '' && { maxSteps: Number(steps) }),
  };
  const body: Partial<Schemas['FinetuneRequest']> = {
    preset,
    ...(Object.keys(settings).length > 0 && { settings }),
    ...(sent.length > 0 && { texts: sent }),
    ...(pairs.length > 0 && { pairs }),
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
            {presets.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        {takesContext && (
          <label>
            What all texts are about
            <input
              value={context}
              placeholder={preset === 'surroundings' ? 'the word most share' : 'Ubuntu'}
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
            placeholder="as the preset says"
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
        <summary>Train on texts and pairs of your own</summary>
        <p class="hint">
          Texts go in place of the collection&rsquo;s documents, pairs beside those of the feedback.
        </p>
        <label>
          A text a line
          <textarea rows={6} value={texts} onInput={(event) => setTexts(event.currentTarget.value)} />
        </label>
        <FileField
          label="A file of texts: a text a line, or .jsonl with title and text"
          what="texts"
          accept=".txt,.jsonl,text/plain"
          parse={textsOf}
          onValues={setFileTexts}
        />
        <FileField
          label="A file of pairs that mean the same: two texts a line, with a tab between them"
          what="pairs"
          accept=".tsv,.txt,text/tab-separated-values"
          parse={pairsOf}
          onValues={setPairs}
        />
      </details>
      {error && <Failure message={error} />}
      <div class="buttons">
        <button type="submit" class="primary">
          Start training
        </button>
        {/* A file's content is too long for a command. */}
        {fileTexts.length + pairs.length === 0 && (
          <CurlButton request={{ path: '/finetune', body }} what="the start of a training" />
        )}
      </div>
    </form>
  );
}
