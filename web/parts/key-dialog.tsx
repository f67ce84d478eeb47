import { useLayoutEffect, useRef } from 'preact/hooks';

import { keyWanted, useKey } from '../api/key.js';

/** Asks for an API key while the server wants one. */
export function KeyDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const wanted = keyWanted.value;
  // A layout effect: the dialog is open again before the event of its having been closed can come.
  useLayoutEffect(() => {
    if (wanted === undefined) dialog.current?.close();
    else if (!dialog.current?.open) dialog.current?.showModal();
  }, [wanted]);
  return (
    <dialog
      ref={dialog}
      aria-labelledby="key-title"
      onClose={({ currentTarget }) => {
        // The event comes late: a key that was wrong may have opened it again.
        if (!currentTarget.open) keyWanted.value = undefined;
      }}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const text = new FormData(event.currentTarget).get('key');
          // The next one that is asked for is another one.
          event.currentTarget.reset();
          useKey(String(text).trim());
        }}
      >
        <h2 id="key-title">This server wants an API key</h2>
        <p role="status">{wanted}</p>
        <label>
          API key
          <input name="key" type="password" required autocomplete="current-password" />
        </label>
        <p class="hint">It is kept in this tab until you close it.</p>
        <button type="submit" class="primary">
          Use this key
        </button>
      </form>
    </dialog>
  );
}
