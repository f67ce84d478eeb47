import type { ComponentChildren } from 'preact';

export function Loading({ what }: { what: string }) {
  return (
    <p class="note" role="status">
      Loading {what} …
    </p>
  );
}

export function Failure({ message, again }: { message: string; again?: () => void }) {
  return (
    <div class="note failure" role="alert">
      <p>{message}</p>
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="note">{children}</div>;
}
