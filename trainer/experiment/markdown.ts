import { bootstrapDefaults } from '../../evaluation/bootstrap.js';
import { costCells, COST_COLUMNS, judgedCells, judgedColumns } from './cells.js';
import type { ExperimentTable } from './table.js';

/** The table of an experiment for people. */
export function markdownReport(table: ExperimentTable): string {
  const { about, model, evaluations, rows } = table;
  const failures = rows.flatMap(({ name, failures }) =>
    failures.map(({ seed, message }) => `- ${name}, seed ${seed}: ${message.replaceAll('\n', ' ')}`),
  );
  return [
    `# ${about}`,
    howToRead(model),
    ...evaluations.flatMap(({ spec, counts }, e) => [
      `## ${spec}`,
      Object.entries(counts)
        .map(([name, count]) => `${count.toLocaleString('en')} ${name}`)
        .join(', '),
      markdownTable(
        judgedColumns(table, e),
        rows.filter(({ judged }) => judged.length > 0).map((row) => judgedCells(table, row, e)),
      ),
    ]),
    '## Cost',
    'Of a training, mean over the seeds.',
    markdownTable(
      COST_COLUMNS,
      rows.filter(({ seeds }) => seeds.length > 0).map((row) => costCells(row)),
    ),
    ...(failures.length > 0 ? ['## Collapsed or failed', failures.join('\n')] : []),
  ]
    .map((part) => `${part}\n`)
    .join('\n');
}

export function howToRead(model: string): string {
  return (
    `Every run started from ${model}, the row "base". Metrics in percent, mean ± standard deviation over the seeds. ` +
    `A difference is of the first metric, with the 95 % interval and p of the paired bootstrap ` +
    `(${bootstrapDefaults.resamples.toLocaleString('en')} resamples of the queries or sentence pairs; of several seeds a query counts with its mean).`
  );
}

function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n');
}
