/** HTML that is safe to put into a page as it stands. */
export class Html {
  constructor(readonly source: string) {}
}

/** A template whose values are escaped, but for those that are HTML already. A list is put end to end. */
export function html(parts: TemplateStringsArray, ...values: unknown[]): Html {
  return new Html(parts.reduce((text, part, i) => text + sourceOf(values[i - 1]) + part));
}

function sourceOf(value: unknown): string {
  if (value instanceof Html) return value.source;
  if (Array.isArray(value)) return value.map(sourceOf).join('');
  return String(value).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** A table whose first column names the rows; it scrolls by itself where it is wider than the page. */
export function table(head: readonly unknown[], rows: readonly (readonly unknown[])[]): Html {
  return html`<div class="scroll">
    <table>
      ${
        head.length > 0
          ? html`<thead>
              <tr>
                ${head.map((cell) => html`<th scope="col">${cell}</th>`)}
              </tr>
            </thead>`
          : ''
      }
      <tbody>
        ${rows.map(
          ([name, ...cells]) =>
            html`<tr>
              <th scope="row">${name}</th>
              ${cells.map((cell) => html`<td>${cell}</td>`)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

export const STYLE = new Html(`
:root {
  color-scheme: light dark;
  --page: #ffffff; --box: #f6f7f9; --text: #1c2128; --muted: #5b6470; --border: #dfe3e8;
  --good: #12794f; --bad: #b3261e; --open: #5b6470;
  --line-1: #1f62d0; --line-2: #c2570c; --line-3: #0b8069; --line-4: #8b45c9;
  --line-5: #b8285f; --line-6: #6f6800; --line-7: #0a7390; --line-8: #7a5a44;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --box: #1d2127; --text: #e4e7eb; --muted: #a0a8b3; --border: #343a43;
    --good: #56c596; --bad: #ff8a80; --open: #a0a8b3;
    --line-1: #76b0ff; --line-2: #ffa45c; --line-3: #4fcdb0; --line-4: #cb9dff;
    --line-5: #ff8fb0; --line-6: #d9cf5a; --line-7: #6cc7e8; --line-8: #c9ad98;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { margin: 0; font-size: 24px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 44px 0 12px; font-size: 18px; }
h3 { margin: 0 0 4px; font-size: 15px; overflow-wrap: anywhere; }
p { margin: 6px 0; max-width: 75ch; overflow-wrap: anywhere; }
.muted + h3, .muted + .charts { margin-top: 16px; }
.muted { color: var(--muted); }
.verdict { margin: 20px 0; padding: 12px 16px; background: var(--box); border-left: 4px solid var(--open); border-radius: 4px; }
.verdict p:first-child { font-size: 17px; font-weight: 600; }
.verdict.good { border-color: var(--good); } .verdict.good p:first-child { color: var(--good); }
.verdict.bad { border-color: var(--bad); } .verdict.bad p:first-child { color: var(--bad); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 16px; margin: 20px 0; }
dt { color: var(--muted); font-size: 13px; } dd { margin: 0; font-size: 19px; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 8px 0 20px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 16px 5px 0; border-bottom: 1px solid var(--border); text-align: left; vertical-align: top; }
thead th { color: var(--muted); font-size: 13px; font-weight: 500; }
tbody th { font-weight: 400; }
.numbers td, .numbers thead th + th { padding: 5px 0 5px 20px; text-align: right; vertical-align: bottom; }
.numbers th { padding-right: 0; }
code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
td code { display: inline-block; min-width: 16ch; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 28px 24px; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; color: var(--muted); font-size: 13px; min-height: 20px; }
.legend i { display: inline-block; width: 14px; height: 3px; margin: 0 6px 3px 0; border-radius: 2px; }
`);
