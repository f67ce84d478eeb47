import { lineColor } from '../report/drawing.js';
import { html, Html, STYLE, table as htmlTable } from '../report/html.js';
import { costCells, COST_COLUMNS, judgedCells, judgedColumns } from './cells.js';
import { barsSvg, sweepSvg } from './charts.js';
import { howToRead } from './markdown.js';
import { sweepsOf } from './sweeps.js';
import { BASE, type ExperimentTable } from './table.js';

/** An experiment as one HTML page that needs nothing else: no script, no network. */
export function experimentReport(table: ExperimentTable): string {
  const { about, model, evaluations, rows } = table;
  const failures = rows.flatMap(({ name, failures }) =>
    failures.map(({ seed, message }) => [`${name}, seed ${seed}`, message]),
  );
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${about}</title>
        <style>
          ${STYLE} .numbers td {
            white-space: nowrap;
          }
          .charts figure {
            max-width: 520px;
          }
        </style>
      </head>
      <body>
        <main>
          <h1>${about}</h1>
          <p class="muted">${howToRead(model)}</p>
          ${evaluations.map((_, e) => evaluationPart(table, e))}
          <h2>Cost</h2>
          <p class="muted">Of a training, mean over the seeds.</p>
          <div class="numbers">
            ${htmlTable(
              COST_COLUMNS,
              rows.filter(({ seeds }) => seeds.length > 0).map((row) => costCells(row)),
            )}
          </div>
          ${
            failures.length > 0
              ? html`<h2>Collapsed or failed</h2>
                  ${htmlTable([], failures)}`
              : ''
          }
        </main>
      </body>
    </html>`.source;
}

function evaluationPart(table: ExperimentTable, e: number): Html {
  const { evaluations, rows } = table;
  const { spec, primary, counts } = evaluations[e];
  const judged = rows.filter((row) => row.judged.length > 0);
  const base = judged.find(({ name }) => name === BASE)!.judged[e].metrics[primary].mean;
  const mark = { value: base, label: 'base' };
  const bars = judged
    .filter(({ name }) => name !== BASE)
    .map(({ name, judged }) => ({ label: name, figure: judged[e].metrics[primary] }));
  const id = `evaluation-${e + 1}`;
  return html`<h2>${spec}</h2>
    <p class="muted">
      ${Object.entries(counts)
        .map(([name, count]) => `${count.toLocaleString('en')} ${name}`)
        .join(', ')}
    </p>
    ${
      bars.length > 0
        ? html`<figure role="img" aria-label="${primary} of every run">
            <h3>${primary}</h3>
            <div class="legend">
              <span
                >percent; a dot is the mean, a line one standard deviation to either side, faint dots the
                seeds</span
              >
            </div>
            ${new Html(barsSvg(id, bars, mark))}
          </figure>`
        : ''
    }
    <div class="charts">
      ${sweepsOf(rows, e, primary).map(
        (sweep, i) =>
          html`<figure role="img" aria-label="${primary} over ${sweep.key}">
            <h3>${sweep.family}: ${primary} over ${sweep.key}</h3>
            <div class="legend">
              ${sweep.lines.map(
                ({ label }, line) =>
                  html`<span><i style="background: ${lineColor(line)}"></i>${label || 'percent'}</span>`,
              )}
            </div>
            ${new Html(sweepSvg(`${id}-sweep-${i + 1}`, sweep, mark))}
          </figure>`,
      )}
    </div>
    <div class="numbers">
      ${htmlTable(
        judgedColumns(table, e),
        judged.map((row) => judgedCells(table, row, e)),
      )}
    </div>`;
}
