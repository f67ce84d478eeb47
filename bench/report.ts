/** A Markdown table; numbers to the right. */
export function markdownTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const isNumeric = columns.map((_, c) => rows.every((row) => /^[-\d.,]*( .{1,3})?$/.test(row[c])));
  return [columns, isNumeric.map((numeric) => (numeric ? '---:' : '---')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

/** 1,234 · 123 · 12.3 · 1.23: three figures or more. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '';
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
