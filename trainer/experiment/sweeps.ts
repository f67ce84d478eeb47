import type { Sweep } from './charts.js';
import type { Row } from './table.js';

/**
 * What can be drawn of grids: a sweep for each family of runs and each setting that takes two numbers or more. A
 * list of widths counts as its first number.
 *
 * @param e which evaluation
 */
export function sweepsOf(rows: readonly Row[], e: number, metric: string): (Sweep & { family: string })[] {
  const judged = rows.filter((row) => row.judged.length > 0);
  const families = [...new Set(judged.map(({ family }) => family))];
  return families.flatMap((family) => {
    const members = judged.filter((row) => row.family === family);
    return Object.keys(members[0].values).flatMap((key) => {
      const values = [...new Set(members.map((row) => row.values[key]))].sort(
        (a, b) => numberOf(a) - numberOf(b),
      );
      if (values.length < 2 || values.some((value) => Number.isNaN(numberOf(value)))) return [];
      const others = (row: Row): string =>
        Object.entries(row.values)
          .filter(([name]) => name !== key)
          .map(([name, value]) => `${name}=${value}`)
          .join(', ');
      const labels = [...new Set(members.map(others))].sort();
      const lines = labels.map((label) => ({
        label,
        figures: values.map(
          (value) =>
            members.find((row) => row.values[key] === value && others(row) === label)?.judged[e].metrics[
              metric
            ],
        ),
      }));
      return [{ family, key, values, lines }];
    });
  });
}

function numberOf(value: string): number {
  const [first] = value.split(',');
  return first.trim() === '' ? Number.NaN : Number(first);
}
