/** Has the browser save a file of one JSON value a line. */
export function downloadLines(name: string, values: readonly unknown[]): void {
  const lines = values.map((value) => `${JSON.stringify(value)}\n`);
  const url = URL.createObjectURL(new Blob(lines, { type: 'application/x-ndjson' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
