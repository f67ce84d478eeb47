import { signal } from '@preact/signals';

/** The API key of this tab; gone when the tab is closed. */
export const key = signal(sessionStorage.getItem('key') ?? '');

/** What the server said when it wanted a key; the page asks for one while it is set. */
export const keyWanted = signal<string | undefined>(undefined);

/** Beyond Latin-1, and control characters. */
const IN_NO_HEADER = /[^\t -~\u0080-\u00ff]/u;

/** Unless no request could bring it: then the page asks for another one. */
export function useKey(text: string): void {
  const [character] = IN_NO_HEADER.exec(text) ?? [];
  if (character !== undefined) {
    const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
    keyWanted.value = `The key has the character U+${code} in it, which no header can have: a typographic quote or an invisible space, say. Copy the key without it.`;
    return;
  }
  sessionStorage.setItem('key', text);
  key.value = text;
  keyWanted.value = undefined;
}
