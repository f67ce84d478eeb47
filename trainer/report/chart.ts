import { LineChart } from 'echarts/charts';
import { GridComponent, MarkLineComponent } from 'echarts/components';
import { use } from 'echarts/core';

import { axisNumber, COLORS, drawSvg, GRID, TEXT } from './drawing.js';
import { envelope, smooth, type Point } from './series.js';

use([LineChart, GridComponent, MarkLineComponent]);

export interface Chart {
  /** Tells its parts from those of the page's other charts. */
  id: string;
  lines: Line[];
  /** Values and steps that are marked by a dashed line. */
  marks?: { y?: number; x?: number; label?: string }[];
  /** The highest step shown. */
  steps: number;
  /** How a value is written at the axis. */
  format?: (value: number) => string;
}

export interface Line {
  points: Point[];
  /** Draw the points' mean over neighbours, and the points themselves faintly behind it. */
  smoothed?: boolean;
  /** Show each point: there are few, and what lies between was not measured. */
  dots?: boolean;
}

const WIDTH = 480;
const HEIGHT = 240;
/** Points a line: more than the plot has pixels shows nothing more. */
const MOST_POINTS = 600;
/** Share of a run that a smoothed line takes the mean of. */
const SMOOTHING = 1 / 40;
/** From here on a linear axis would press the low values flat. */
const LOG_RATIO = 30;

/** A line chart over the steps as an <svg>. Line i has the page's colour --line-(i + 1). */
export function chartSvg(chart: Chart): string {
  const { lines, marks = [], steps, format = axisNumber } = chart;
  const values = lines.flatMap(({ points, smoothed }) =>
    (smoothed ? smooth(points, points.length * SMOOTHING) : points).map(([, value]) => value),
  );
  const lowest = values.reduce((a, b) => Math.min(a, b), Infinity);
  const highest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const isLog = lowest > 0 && highest / lowest > LOG_RATIO;

  return drawSvg(
    { id: chart.id, width: WIDTH, height: HEIGHT },
    {
      grid: { left: 52, right: 16, top: 22, bottom: 40, outerBoundsMode: 'none' },
      xAxis: {
        type: 'value',
        min: 0,
        max: steps,
        name: 'step',
        nameLocation: 'middle',
        nameGap: 24,
        nameTextStyle: { color: TEXT, fontSize: 12 },
        axisLine: { lineStyle: { color: GRID } },
        axisTick: { lineStyle: { color: GRID } },
        axisLabel: { color: TEXT, fontSize: 12, formatter: axisNumber, hideOverlap: true },
        splitLine: { show: false },
      },
      yAxis: {
        type: isLog ? 'log' : 'value',
        scale: true,
        splitNumber: 4,
        axisLine: { show: false },
        axisTick: { show: false },
        axisLabel: { color: TEXT, fontSize: 12, formatter: format },
        splitLine: { lineStyle: { color: GRID } },
      },
      series: lines.flatMap(({ points, smoothed, dots }, i) => {
        const usable = isLog ? points.filter(([, value]) => value > 0) : points;
        const color = COLORS[i % COLORS.length];
        const line = (data: Point[], width: number, opacity: number): object => ({
          type: 'line',
          data: envelope(data, MOST_POINTS),
          showSymbol: dots ?? false,
          symbol: 'circle',
          symbolSize: 7,
          silent: true,
          itemStyle: { color },
          lineStyle: { color, width, opacity },
          ...(i === 0 && opacity === 1 && { markLine: markLine(marks) }),
        });
        if (!smoothed) return [line(usable, 2, 1)];
        return [line(usable, 1, 0.25), line(smooth(usable, usable.length * SMOOTHING), 2, 1)];
      }),
    },
  );
}

function markLine(marks: NonNullable<Chart['marks']>): object {
  return {
    silent: true,
    symbol: 'none',
    lineStyle: { color: TEXT, width: 1, type: [4, 4] },
    data: marks.map(({ x, y, label }) => ({
      ...(x === undefined ? { yAxis: y } : { xAxis: x }),
      label: {
        show: label !== undefined,
        formatter: label,
        color: TEXT,
        fontSize: 12,
        textBorderWidth: 0,
        rotate: 0,
        ...(x === undefined ? { position: 'insideEndTop' } : { position: 'end', distance: 3 }),
      },
    })),
  };
}
