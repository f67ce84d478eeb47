import { UserError } from '../base/errors.js';
import { readLines } from '../base/lines.js';

/**
 * The first texts of a file: a text a line, or a BEIR corpus when its name ends in .jsonl or .jsonl.gz.
 *
 * @throws UserError `empty` when there is none, or as readLines
 */
export async function readTexts(file: string, limit: number): Promise<string[]> {
  const isJson = /\.jsonl(\.gz)?$/.test(file);
  const texts: string[] = [];
  for await (const { text: line, number } of readLines(file)) {
    if (line.trim() === '') continue;
    texts.push(isJson ? textOf(line, `${file}:${number}`) : line);
    if (texts.length === limit) break;
  }
  if (texts.length === 0) throw new UserError('empty', `${file}: expected texts, found none`);
  return texts;
}

function textOf(line: string, where: string): string {
  const { title, text } = objectOf(line);
  if (typeof text !== 'string')
    throw new UserError('malformed', `${where}: expected a JSON object with a string "text"`);
  return typeof title === 'string' && title !== '' ? `${title} ${text}` : text;
}

function objectOf(line: string): { title?: unknown; text?: unknown } {
  try {
    return (JSON.parse(line) as object | null) ?? {};
  } catch {
    return {};
  }
}
