import { useState } from 'preact/hooks';

import { curlOf, type ApiRequest } from '../api/curl.js';

const SHOWN_MS = 1500;

/** Puts the request on the clipboard, as a command for a shell. */
export function CurlButton({ request, what }: { request: ApiRequest; what: string }) {
  const [told, setTold] = useState('');
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(curlOf(request));
      setTold('Copied');
    } catch {
      setTold('Not allowed to copy');
    }
    setTimeout(() => setTold(''), SHOWN_MS);
  };
  return (
    <button type="button" class="quiet" onClick={copy} title={curlOf(request)}>
      <span aria-live="polite">{told || 'Copy as curl'}</span>
      <span class="hidden"> {what}</span>
    </button>
  );
}
