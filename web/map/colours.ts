export type Colour = readonly [number, number, number];

/** Apart from each other, and seen on white and on black. */
const PALETTE: readonly Colour[] = [
  [59, 130, 214],
  [217, 130, 43],
  [47, 158, 98],
  [176, 80, 158],
  [200, 70, 70],
  [20, 160, 170],
  [150, 130, 40],
  [125, 100, 220],
  [120, 160, 60],
  [215, 100, 130],
  [90, 120, 150],
  [165, 105, 75],
];
const NONE: Colour = [138, 143, 152];
const COLD: Colour = [120, 130, 160];
const HOT: Colour = [225, 70, 40];

export interface Colouring {
  of: readonly Colour[];
  /** What a colour means; of numbers the least and the greatest. */
  legend: { label: string; colour: Colour }[];
}

export const css = ([r, g, b]: Colour): string => `rgb(${r} ${g} ${b})`;

export const clusterColour = (cluster: number | undefined): Colour =>
  cluster === undefined ? NONE : PALETTE[cluster % PALETTE.length];

/** Numbers from cold to hot, anything else by the most frequent values. */
export function colouringOf(values: readonly (string | number | boolean | null | undefined)[]): Colouring {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length > 0 && known.every((value) => typeof value === 'number')) {
    const [least, greatest] = known.reduce(
      ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
      [Infinity, -Infinity],
    );
    const shade = (value: number): Colour => {
      const share = greatest > least ? (value - least) / (greatest - least) : 0;
      return [0, 1, 2].map((i) => Math.round(COLD[i] + share * (HOT[i] - COLD[i]))) as unknown as Colour;
    };
    return {
      of: values.map((value) => (typeof value === 'number' ? shade(value) : NONE)),
      legend: [least, greatest].map((value) => ({
        label: String(+value.toPrecision(3)),
        colour: shade(value),
      })),
    };
  }
  const counts = new Map<string, number>();
  for (const value of known) counts.set(String(value), (counts.get(String(value)) ?? 0) + 1);
  const first = [...counts].sort((a, b) => b[1] - a[1]).slice(0, PALETTE.length);
  const colours = new Map(first.map(([value], i) => [value, PALETTE[i]]));
  return {
    of: values.map((value) => colours.get(String(value)) ?? NONE),
    legend: [
      ...[...colours].map(([label, colour]) => ({ label, colour })),
      ...(counts.size > colours.size || known.length < values.length
        ? [{ label: 'other', colour: NONE }]
        : []),
    ],
  };
}
