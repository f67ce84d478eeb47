import { useEffect, useState } from 'preact/hooks';

import { api, dataOf, type Schemas } from '../api/client.js';
import { keyWanted } from '../api/key.js';
import { useAnswer } from '../api/use-answer.js';
import { LocalEncoder, NOT_LOADED, type LoadState } from '../local/encoder.js';
import { Failure, Loading } from '../parts/notes.js';

const NUMBERS_SHOWN = 5;

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / Math.sqrt(aa * bb);
}

/** Loads the served model into the page, and compares its vector of the question with the server's. */
export function RunHere({ query, info }: { query: string; info: Schemas['Info'] }) {
  const [encoder, setEncoder] = useState<LocalEncoder | undefined>(undefined);
  const [state, setState] = useState<LoadState>(NOT_LOADED);
  useEffect(() => () => encoder?.close(), [encoder]);
  const load = (): void => {
    const { model_id: name, max_input_length: maxTokens } = info;
    setState(NOT_LOADED);
    setEncoder(
      new LocalEncoder({ name, maxTokens, pooling: info.model_type.embedding.pooling }, (changed) => {
        if (changed.failed?.unauthorized) keyWanted.value = changed.failed.message;
        setState(changed);
      }),
    );
  };
  const inKernels = info.backend === 'kernels' && info.model_dtype === 'fp32';
  const arithmetic = inKernels ? 'integers of 16 bits' : info.model_dtype;
  return (
    <details>
      <summary>Run it here</summary>
      <p>
        {info.model_id} can run in this page as well: transformers.js loads the files of the model&rsquo;s
        folder from this server and embeds the question by itself. Its vector is the server&rsquo;s
        {arithmetic !== 'fp32' &&
          `, but for rounding: the server computes in ${arithmetic}, the page in fp32`}
        .
      </p>
      {state.failed && <Failure message={state.failed.message} again={load} />}
      {!encoder && (
        <button type="button" onClick={load}>
          Load the model
        </button>
      )}
      {encoder && !state.failed && (
        <label>
          <span role="status">
            {state.ready ? 'Loaded' : 'Loading'} {megabytes(state.loaded)} of {megabytes(state.total)} MB
          </span>
          <progress value={state.loaded} max={state.total || 1} />
        </label>
      )}
      {encoder && state.ready && (
        <Beside key={encoder} encoder={encoder} query={query} model={info.model_id} />
      )}
    </details>
  );
}

/** Both vectors of a question. */
function Beside({ encoder, query, model }: { encoder: LocalEncoder; query: string; model: string }) {
  const { data, error } = useAnswer(
    query === ''
      ? undefined
      : async (signal) => {
          const body = {
            inputs: query,
            model,
            truncate: true,
            truncation_direction: 'Right',
            normalize: true,
          } as const;
          const [here, answer] = await Promise.all([
            encoder.embed(query),
            dataOf(api.POST('/embed', { body, signal })),
          ]);
          // The other form, bytes, comes only to those who accept it alone.
          const [server] = answer as Schemas['Vectors'];
          if (here.vector.length !== server.length)
            throw new Error(
              `The page's vector has ${here.vector.length} numbers, the server's ${server.length}: the folder's graph leaves a module out. "sentence-jepa model export" writes a folder whose graph has it.`,
            );
          return { ...here, server, cosine: cosine(here.vector, server) };
        },
    [encoder, query, model],
  );
  if (error) return <Failure message={error} />;
  if (query === '') return <p>Type a question to see its two vectors.</p>;
  if (!data) return <Loading what="both vectors" />;
  return (
    <>
      <p>
        Embedded here in {data.ms.toFixed(1)} ms. Cosine of both vectors:{' '}
        <output>{data.cosine.toFixed(7)}</output>
      </p>
      <table class="narrow">
        <caption>
          The first {NUMBERS_SHOWN} of {data.server.length} numbers
        </caption>
        <thead>
          <tr>
            <th scope="col">This page</th>
            <th scope="col">The server</th>
          </tr>
        </thead>
        <tbody>
          {data.server.slice(0, NUMBERS_SHOWN).map((number, i) => (
            <tr key={i}>
              <td>{data.vector[i].toFixed(6)}</td>
              <td>{number.toFixed(6)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
