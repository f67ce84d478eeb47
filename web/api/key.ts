import { signal } from '@preact/signals';

/** The API key of this tab; gone when the tab is closed. */
export const key = signal(sessionStorage.getItem('key') ?? '');

/** What the server said when it wanted a key; the page asks for one while it is set. */
export const keyWanted = signal<string | undefined>(undefined);

export function useKey(text: string): void {
  sessionStorage.setItem('key', text);
  key.value = text;
  keyWanted.value = undefined;
}
