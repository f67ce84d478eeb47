import { LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, MarkLineComponent } from 'echarts/components';
import { use } from 'echarts/core';

import { axisNumber, COLORS, drawSvg, GRID, TEXT } from '../report/drawing.js';
import type { Figure } from './table.js';

use([LineChart, ScatterChart, GridComponent, MarkLineComponent]);

/** A figure of a run, in percent when it is drawn. */
export interface Bar {
  label: string;
  figure: Figure;
}

/** Of a grid: a setting's values, and a figure at each, for every combination of the others. */
export interface Sweep {
  key: string;
  /** Numbers as they are written, rising. */
  values: string[];
  lines: { label: string; figures: (Figure | undefined)[] }[];
}

const ROW = 26;
/** Of the usual character at 12 pixels. */
const CHARACTER = 6.6;

const axisStyle = {
  axisLine: { lineStyle: { color: GRID } },
  axisTick: { lineStyle: { color: GRID } },
  axisLabel: { color: TEXT, fontSize: 12 },
};

/**
 * A row for each run: every seed as a faint dot, the mean as a dot, one standard deviation to either side as a
 * line; the first bar is at the top. Dots and no bars: the axis does not begin at 0.
 *
 * @param mark a value that all are seen against
 */
export function barsSvg(id: string, bars: readonly Bar[], mark: { value: number; label: string }): string {
  const left = 16 + CHARACTER * Math.max(...bars.map(({ label }) => label.length));
  return drawSvg(
    { id, width: 960, height: 70 + ROW * bars.length },
    {
      grid: { left, right: 40, top: 26, bottom: 30, outerBoundsMode: 'none' },
      xAxis: {
        type: 'value',
        scale: true,
        ...axisStyle,
        axisLabel: { ...axisStyle.axisLabel, formatter: axisNumber },
        splitLine: { lineStyle: { color: GRID } },
      },
      yAxis: {
        type: 'category',
        inverse: true,
        data: bars.map(({ label }) => label),
        ...axisStyle,
        axisTick: { show: false },
      },
      series: [
        {
          type: 'scatter',
          symbolSize: 9,
          silent: true,
          itemStyle: { color: COLORS[0] },
          data: bars.map(({ figure }, row) => [100 * figure.mean, row]),
          markLine: markLine({ xAxis: 100 * mark.value }, mark.label),
        },
        {
          type: 'scatter',
          symbolSize: 6,
          silent: true,
          itemStyle: { color: COLORS[0], opacity: 0.3 },
          data: bars.flatMap(({ figure }, row) => figure.values.map((value) => [100 * value, row])),
        },
        ...bars.flatMap(({ figure }, row) => spread(figure, (value) => [value, row], COLORS[0])),
      ],
    },
  );
}

/** The metric over a setting's values, evenly spaced: mean, and one standard deviation to either side. */
export function sweepSvg(
  id: string,
  { key, values, lines }: Sweep,
  mark: { value: number; label: string },
): string {
  return drawSvg(
    { id, width: 480, height: 260 },
    {
      grid: { left: 52, right: 16, top: 26, bottom: 44, outerBoundsMode: 'none' },
      xAxis: {
        type: 'category',
        data: values,
        name: key,
        nameLocation: 'middle',
        nameGap: 26,
        nameTextStyle: { color: TEXT, fontSize: 12 },
        ...axisStyle,
      },
      yAxis: {
        type: 'value',
        scale: true,
        splitNumber: 4,
        axisLine: { show: false },
        axisTick: { show: false },
        axisLabel: { color: TEXT, fontSize: 12, formatter: axisNumber },
        splitLine: { lineStyle: { color: GRID } },
      },
      series: lines.flatMap(({ figures }, i) => {
        const color = COLORS[i % COLORS.length];
        return [
          {
            type: 'line',
            symbol: 'circle',
            symbolSize: 7,
            silent: true,
            itemStyle: { color },
            lineStyle: { color, width: 2 },
            data: figures.map((figure) => (figure ? 100 * figure.mean : null)),
            ...(i === 0 && { markLine: markLine({ yAxis: 100 * mark.value }, mark.label) }),
          },
          ...figures.flatMap((figure, x) => (figure ? spread(figure, (value) => [x, value], color) : [])),
        ];
      }),
    },
  );
}

/** One standard deviation to either side of the mean; nothing of a single seed. */
function spread(
  { mean, std }: Figure,
  point: (percent: number) => [number, number],
  color: string,
): object[] {
  if (std === undefined) return [];
  return [
    {
      type: 'line',
      showSymbol: false,
      silent: true,
      lineStyle: { color, width: 2, opacity: 0.6 },
      data: [point(100 * (mean - std)), point(100 * (mean + std))],
    },
  ];
}

function markLine(at: object, label: string): object {
  return {
    silent: true,
    symbol: 'none',
    lineStyle: { color: TEXT, width: 1, type: [4, 4] },
    data: [
      {
        ...at,
        label: {
          show: true,
          formatter: label,
          color: TEXT,
          fontSize: 12,
          textBorderWidth: 0,
          rotate: 0,
          ...('xAxis' in at ? { position: 'start', distance: 3 } : { position: 'insideEndTop' }),
        },
      },
    ],
  };
}
