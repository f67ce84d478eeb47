/** Lines with their numbers in the file; blank ones are none. */
function linesOf(content: string): { line: string; number: number }[] {
  return content
    .split(/\r?\n/)
    .map((line, i) => ({ line, number: i + 1 }))
    .filter(({ line }) => line.trim() !== '');
}

const clip = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}…` : text);

function textOfJson(line: string, number: number): string {
  const wrong = new Error(`Line ${number}: expected {"title"?, "text"} as JSON, came ${clip(line)}`);
  try {
    const { title, text } = JSON.parse(line) as { title?: unknown; text?: unknown };
    if (typeof text !== 'string' || !['string', 'undefined'].includes(typeof title)) throw wrong;
    return `${title ?? ''} ${text}`.trim();
  } catch {
    throw wrong;
  }
}

/**
 * Texts to train on: a text a line, or of a `.jsonl` title and text, as BEIR's corpora have them.
 *
 * @throws Error naming the line
 */
export function textsOf(name: string, content: string): string[] {
  const lines = linesOf(content);
  if (!name.endsWith('.jsonl')) return lines.map(({ line }) => line);
  return lines.map(({ line, number }) => textOfJson(line, number)).filter((text) => text !== '');
}

/**
 * Texts that mean the same: two a line, with a tab between them.
 *
 * @throws Error naming the line
 */
export function pairsOf(_name: string, content: string): [string, string][] {
  return linesOf(content).map(({ line, number }) => {
    const [a, b, ...more] = line.split('\t').map((text) => text.trim());
    if (!a || !b || more.length > 0)
      throw new Error(`Line ${number}: expected two texts with a tab between them, came ${clip(line)}`);
    return [a, b];
  });
}
