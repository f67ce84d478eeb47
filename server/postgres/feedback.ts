import { partOf, type Feedback, type FeedbackCounts, type Part } from '../search/feedback-table.js';
import type { Queries } from './database.js';

/** What was said of the same query and document before is replaced; the last of several in one call counts. */
export async function addFeedback(queries: Queries, feedback: readonly Feedback[]): Promise<void> {
  const latest = [...new Map(feedback.map((each) => [JSON.stringify([each.query, each.id]), each])).values()];
  await queries.query(
    `INSERT INTO feedback (query, document, relevant, part, created)
     SELECT *, $5 FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[])
     ON CONFLICT (query, document) DO UPDATE
     SET relevant = excluded.relevant, part = excluded.part, created = excluded.created`,
    [
      latest.map(({ query }) => query),
      latest.map(({ id }) => id),
      latest.map(({ relevant }) => relevant),
      latest.map(({ query }) => partOf(query)),
      new Date().toISOString(),
    ],
  );
}

/** What was found relevant and is still in the collection, by query. */
export function relevant(
  queries: Queries,
  part: Part,
): Promise<{ query: string; id: string; text: string }[]> {
  return queries.query(
    `SELECT query, d.id, text FROM feedback JOIN documents d ON d.id = document
     WHERE relevant AND part = $1 ORDER BY query, d.id`,
    [part],
  );
}

export async function feedbackCounts(queries: Queries): Promise<FeedbackCounts> {
  const rows = await queries.query<{ part: Part; total: number; relevant: number; queries: number }>(
    `SELECT part, count(*) AS total, count(*) FILTER (WHERE relevant) AS relevant, count(DISTINCT query) AS queries
     FROM feedback GROUP BY part`,
  );
  const counts = { total: 0, relevant: 0, queries: { train: 0, dev: 0, test: 0 } };
  for (const row of rows) {
    counts.total += row.total;
    counts.relevant += row.relevant;
    counts.queries[row.part] = row.queries;
  }
  return counts;
}
