import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

export interface Series {
  label: string;
  /** [step, value], steps rising. */
  points: readonly (readonly [number, number])[];
}

const HEIGHT = 180;
const COLOURS = ['#3b82d6', '#d9822b', '#2f9e62', '#b0509e', '#8a8f98'];

/** Curves over the steps of a training. What they show last is said in words as well. */
export function Chart({ title, series }: { title: string; series: readonly Series[] }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current!;
    const ink = getComputedStyle(document.body).color;
    const steps = [...new Set(series.flatMap(({ points }) => points.map(([step]) => step)))].sort(
      (a, b) => a - b,
    );
    const values = series.map(({ points }) => {
      const of = new Map(points);
      return steps.map((step) => of.get(step));
    });
    const axis = { stroke: ink, grid: { stroke: '#8884', width: 1 }, ticks: { stroke: '#8884', width: 1 } };
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        scales: { x: { time: false } },
        axes: [axis, { ...axis, size: 60 }],
        series: [
          { label: 'step' },
          ...series.map(({ label }, i) => ({
            label,
            stroke: COLOURS[i % COLOURS.length],
            width: 2,
            spanGaps: true,
          })),
        ],
        legend: { show: series.length > 1, live: false },
      },
      [steps, ...values],
      element,
    );
    const resize = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      plot.destroy();
    };
  }, [series]);
  const last = series.map(({ label, points }) => `${label} ${points.at(-1)?.[1].toPrecision(3)}`).join(', ');
  return (
    <figure class="chart">
      <figcaption>
        {title}: {last}
      </figcaption>
      <div ref={box} aria-hidden="true" />
    </figure>
  );
}
