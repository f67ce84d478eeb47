const WORD = /[\p{L}\p{N}\p{M}]+/gu;

/** Words as the lexical index compares them: without case and accents. */
const folded = (word: string): string => word.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();

/** A text with the words marked that the query has, too. */
export function Highlight({ text, query }: { text: string; query: string }) {
  const wanted = new Set((query.match(WORD) ?? []).map(folded));
  const parts: preact.ComponentChild[] = [];
  let end = 0;
  for (const { 0: word, index } of text.matchAll(WORD)) {
    if (!wanted.has(folded(word))) continue;
    parts.push(text.slice(end, index), <mark key={index}>{word}</mark>);
    end = index + word.length;
  }
  return (
    <>
      {parts}
      {text.slice(end)}
    </>
  );
}
