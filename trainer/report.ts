import { chartSvg, type Chart } from './report/chart.js';
import { lineColor } from './report/drawing.js';
import { html, Html, STYLE, table } from './report/html.js';
import type { Point } from './report/series.js';
import { comparisons, exportedStep, percent, verdict, type Comparison } from './report/verdict.js';
import type { Run, StepEntry } from './run-log.js';
import { secondsOf, sentencesPerSecond, tokensOf, tokensPerSecond } from './throughput.js';

/**
 * A run as one HTML page that needs nothing else: no script, no network. It is as small for 20,000 steps as for
 * 1,000, and can be made while the run goes on.
 */
export function trainingReport(run: Run): string {
  const { start, steps } = run;
  const { tone, text } = verdict(run);
  const title = `Training report: ${start.base.name}`;
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title}</title>
        <style>
          ${STYLE}
        </style>
      </head>
      <body>
        <main>
          <h1>${title}</h1>
          <p class="muted">
            ${start.steps > 0 ? `Preset ${start.preset}, started` : 'Started'}
            ${start.time.slice(0, 16).replace('T', ' ')} UTC, sentence-jepa ${start.version}
          </p>
          <div class="verdict ${tone}">
            <p>${text}</p>
            <p>${exportedStep(run)}</p>
          </div>
          ${facts(run)} ${results(comparisons(run))} ${steps.length > 0 ? charts(run) : ''}
          ${start.steps > 0 ? recipeTable(run) : ''}
          <h2>Data</h2>
          ${table(
            ['file', 'used', 'SHA-256'],
            start.data.map(({ file, kind, count, sha256 }) => [
              file,
              `${whole(count)} ${kind}`,
              html`<code>${sha256}</code>`,
            ]),
          )}
          <h2>Environment</h2>
          <p class="muted">With the same of all these, a rerun gives the same losses.</p>
          ${table(
            [],
            [
              [
                'base encoder',
                `${start.base.name}, ${start.base.layers} layers, ${start.base.dimensions} dimensions`,
              ],
              ['fingerprint', html`<code>${start.base.fingerprint}</code>`],
              ...Object.entries(start.environment),
            ],
          )}
        </main>
      </body>
    </html>`.source;
}

function recipeTable({ start }: Run): Html {
  return html`<h2>Recipe</h2>
    <p class="muted">Each is a name for --set.</p>
    ${table(
      [],
      Object.entries(start.recipe).map(([name, value]) => [
        html`<code>${name}</code>`,
        Array.isArray(value) ? value.join(', ') : value,
      ]),
    )}`;
}

function facts({ start, steps, adapted, end }: Run): Html {
  const trained = start.data.reduce((sum, { count }) => sum + count, 0);
  const all: [string, string][] = [['texts and pairs', whole(trained)]];
  if (start.steps > 0) all.unshift(['steps', `${whole(steps.length)} of ${whole(start.steps)}`]);
  if (start.adapt) all.push(['adaptation', start.adapt]);
  if (adapted) all.push(['dimensions', `${adapted.dimensions} of ${start.base.dimensions}`]);
  if (end) all.push(['duration', duration(end.seconds)]);
  if (end?.cpuSeconds !== undefined) all.push(['processor time', duration(end.cpuSeconds)]);
  if (end?.peakMemory !== undefined) all.push(['peak memory', `${whole(end.peakMemory / 1e6)} MB`]);
  if (steps.length > 0)
    all.push(
      ['in steps', duration(secondsOf(steps))],
      ['real tokens', whole(tokensOf(steps))],
      ['sentences a second', whole(sentencesPerSecond(steps, start.recipe))],
      ['real tokens a second', whole(tokensPerSecond(steps))],
    );
  return html`<dl>
    ${all.map(
      ([name, value]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
    )}
  </dl>`;
}

function results(all: Comparison[]): Html {
  if (all.length === 0) return html``;
  return html`<h2>Before and after</h2>
    <p class="muted">
      Metrics in percent. What chose the step is flattered a little:
      <code>sentence-jepa evaluate --compare</code>, on data that chose nothing, is the fairer judge.
    </p>
    ${all.map(
      ({ spec, counts, columns }) =>
        html`<h3>${spec}</h3>
          <p class="muted">
            ${Object.entries(counts)
              .map(([name, count]) => `${whole(count)} ${name}`)
              .join(', ')}
          </p>
          <div class="numbers">
            ${table(
              ['', ...columns.map(({ label }) => label)],
              [
                ...Object.keys(columns[0].result.metrics).map((name) => [
                  name,
                  ...columns.map(({ result }) => percent(result.metrics[name])),
                ]),
                ['std × √d', ...columns.map(({ result }) => fixed(result.diagnostics.std, 3))],
                ['mean cosine', ...columns.map(({ result }) => fixed(result.diagnostics.meanCosine, 3))],
                [
                  'effective rank',
                  ...columns.map(({ result }) => fixed(result.diagnostics.effectiveRank, 1)),
                ],
              ],
            )}
          </div>`,
    )}`;
}

function charts(run: Run): Html {
  const { start, steps, evaluations, end } = run;
  const { recipe } = start;
  const of = (value: (entry: StepEntry) => number): Point[] =>
    steps.filter((entry) => Number.isFinite(value(entry))).map((entry) => [entry.step, value(entry)]);
  const last = Math.max(steps[steps.length - 1].step, end?.step ?? 0);
  // A term without weight is 0 throughout.
  const terms = Object.keys(steps[0].terms).filter((term) => steps.some((entry) => entry.terms[term] !== 0));
  const exported = end?.reason === 'finished' ? [{ x: end.bestStep, label: 'exported' }] : [];

  const collapsed =
    recipe.collapseStd > 0 ? `below ${recipe.collapseStd} it counts as collapsed` : '0 is collapsed';
  const stdNote = `times √d: 1 is spread evenly, ${collapsed}`;

  const figure = (
    title: string,
    note: string,
    chart: Omit<Chart, 'id' | 'steps'>,
    names: string[] = [],
  ): Html => {
    const id = `chart-${title.toLowerCase().replace(/[^a-z0-9]+/g, '-')}`;
    return html`<figure role="img" aria-label="${title} over steps">
      <h3>${title}</h3>
      <div class="legend">
        ${names.map((name, i) => html`<span><i style="background: ${lineColor(i)}"></i>${name}</span>`)}
        <span>${note}</span>
      </div>
      ${new Html(chartSvg({ ...chart, id, steps: last }))}
    </figure>`;
  };

  return html`<h2>Over the steps</h2>
    <p class="muted">Bold: the mean over a fortieth of the run. Faint: each step.</p>
    <div class="charts">
      ${(evaluations.at(-1)?.results ?? []).map(({ spec, primary }) => {
        const points = evaluations.flatMap(({ step, results }): Point[] =>
          results
            .filter((result) => result.spec === spec)
            .map(({ metrics }) => [step, 100 * metrics[primary]]),
        );
        const before = points.filter(([step]) => step === 0).map(([, y]) => ({ y, label: 'base encoder' }));
        return figure(`${primary} on ${spec}`, 'percent', {
          lines: [{ points, dots: true }],
          marks: [...before, ...exported],
        });
      })}
      ${figure(
        'Loss',
        'terms as weighted in the sum',
        {
          lines: [
            { points: of(({ loss }) => loss), smoothed: true },
            ...terms.map((term) => ({ points: of((entry) => entry.terms[term]), smoothed: true })),
          ],
        },
        ['loss', ...terms],
      )}
      ${figure('Std of the embeddings', stdNote, {
        lines: [{ points: of(({ std }) => std), smoothed: true }],
      })}
      ${
        evaluations.length > 0
          ? figure(
              'Effective rank',
              `of ${start.base.dimensions} dimensions`,
              {
                lines: evaluations[0].results.map(({ spec }) => ({
                  points: evaluations.flatMap(({ step, results }): Point[] =>
                    results
                      .filter((result) => result.spec === spec)
                      .map(({ diagnostics }) => [step, diagnostics.effectiveRank]),
                  ),
                  dots: true,
                })),
              },
              evaluations[0].results.map(({ spec }) => spec),
            )
          : ''
      }
      ${figure('Gradient norm', recipe.clip > 0 ? `before it is clipped to ${recipe.clip}` : 'not clipped', {
        lines: [{ points: of(({ gradientNorm }) => gradientNorm), smoothed: true }],
        marks: recipe.clip > 0 ? [{ y: recipe.clip }] : [],
      })}
      ${figure('Learning rate', '', { lines: [{ points: of(({ learningRate }) => learningRate) }] })}
      ${figure('Speed', 'real tokens a second', {
        lines: [{ points: of((entry) => tokensPerSecond([entry])), smoothed: true }],
      })}
    </div>`;
}

function whole(count: number): string {
  return Math.round(count).toLocaleString('en');
}

function fixed(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : '-';
}

/** 45 s, 12 min 5 s, 3 h 20 min. */
function duration(seconds: number): string {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
