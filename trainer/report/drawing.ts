import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';

use([SVGRenderer]);

/**
 * Colours that stand for the page's own, which follow the reader's light or dark: ECharts would not take
 * a CSS variable for a colour. The lines' come first.
 */
export const COLORS = Array.from({ length: 8 }, (_, i) => `#01010${i + 1}`);
export const TEXT = '#010201';
export const GRID = '#010202';
const VARIABLES: Readonly<Record<string, string>> = {
  ...Object.fromEntries(COLORS.map((color, i) => [color, lineColor(i)])),
  [TEXT]: 'var(--muted)',
  [GRID]: 'var(--border)',
};

/** The page's colour of line i of a chart. */
export function lineColor(i: number): string {
  return `var(--line-${(i % COLORS.length) + 1})`;
}

/**
 * A drawing of ECharts as an <svg> for the page.
 *
 * @param size.id tells its parts from those of the page's other drawings
 * @param option of ECharts; its colours are those above
 */
export function drawSvg(
  { id, width, height }: { id: string; width: number; height: number },
  option: object,
): string {
  const instance = init(null, null, { renderer: 'svg', ssr: true, width, height });
  instance.setOption({ animation: false, textStyle: { fontFamily: 'inherit' }, ...option });
  const svg = instance.renderToSVGString();
  instance.dispose();
  return inPage(svg, id);
}

/** The page's colours; no pointer styles, no numbers that count the charts of the process. */
function inPage(svg: string, id: string): string {
  const colored = Object.entries(VARIABLES).reduce(
    (text, [color, variable]) => text.replaceAll(`"${color}"`, `"${variable}"`),
    svg,
  );
  return colored
    .replace(/<style[\s\S]*?<\/style>/g, '')
    .replace(/ (?:class|ecmeta_\w+|pointer-events|xmlns:xlink|baseProfile)="[^"]*"/g, '')
    .replace(/\bzr\d+-/g, `${id}-`)
    .replace(/<svg width="\d+" height="\d+"/, '<svg aria-hidden="true"')
    .replace(/\n+/g, '');
}

/** 20k, 1.5, 0.003, 2e-5. */
export function axisNumber(value: number): string {
  const size = Math.abs(value);
  if (size >= 10_000) return `${Number((value / 1000).toPrecision(4))}k`;
  if (size > 0 && size < 0.001) return value.toExponential().replace(/(\.\d{2})\d*/, '$1');
  return String(Number(value.toPrecision(4)));
}
