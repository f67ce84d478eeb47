import type { Schemas } from '../api/client.js';

const METRICS = ['map@100', 'mrr@10', 'recall@10'] as const;
const percent = (share: number): string => (100 * share).toFixed(1);

/** How the new model compares with the live one. */
export function Verdict({ verdict }: { verdict: Schemas['Verdict'] }) {
  const { test, diagnostics } = verdict;
  const rows = [
    ...(test
      ? METRICS.map((name) => [`${name} (%)`, percent(test.live[name]), percent(test.candidate[name])])
      : []),
    ['spread', diagnostics.live.std.toFixed(2), diagnostics.candidate.std.toFixed(2)],
    [
      'effective rank',
      diagnostics.live.effectiveRank.toFixed(0),
      diagnostics.candidate.effectiveRank.toFixed(0),
    ],
  ];
  return (
    <div class="note">
      <p>
        <strong>{verdict.decision}</strong>: {verdict.reason}
      </p>
      <div class="table" tabIndex={0} role="group" aria-label="Comparison">
        <table>
          <thead>
            <tr>
              <th scope="col">{test ? `on ${test.queries} held-out queries` : 'of the vectors'}</th>
              <th scope="col">{verdict.live}</th>
              <th scope="col">{verdict.candidate}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(([name, ...values]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                {values.map((value, i) => (
                  <td key={i}>{value}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
