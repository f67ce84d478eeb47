import type pg from 'pg';

import { messageOf } from '../../base/errors.js';
import { EF_LADDER, EfChoice, movedALittle } from '../search/ef.js';
import { RECALL_K, recallOf } from '../search/recall.js';
import { CHOOSE_AT_GROWTH, GRAPH_UP_TO_K } from '../search/vector-index.js';
import type { Scored } from '../search/vectors.js';
import { Backoff } from './backoff.js';
import type { Database, Queries } from './database.js';
import { parseVector, vectorsTable, vectorText } from './generations.js';
import { exactNearest, indexNearest, lookThroughIndex, type ThroughIndex } from './nearest.js';

/** With a generation's id, the advisory lock of the server that makes its index and chooses its ef. */
const LOCK = 760_401_173;
const MAKE = 'm = 16, ef_construction = 200';
/** Fewer than in memory: each costs a scan of the table. */
const CHOICE_QUERIES = 100;
/**
 * Less than in memory. Between two stored vectors pgvector's search ends at the other one more often than hnswlib's does, and
 * questions are not between two: over 100,000 titles (pgvector 0.6.2) ef 64, 96, 256 found 0.996, 0.998, 0.9996 of what 250
 * questions were nearest to, 0.974, 0.982, 0.990 of vectors moved by a half, and 0.990, 0.999, 0.999 of those moved by this.
 */
export const MOVED_BY = 0.3;
const RETRY_AT_MOST_MS = 3_600_000;
/** The share by which a generation has to grow that its index is put off: less does not wait for a queue that never empties. */
const MUCH = 0.1;

export interface VectorIndexesOptions {
  /** recall@10 to hold; 1 searches exactly, whatever the size. */
  recall: number;
  /** Up to this many vectors search is exact. */
  exactUpTo: number;
  log?: (message: string) => void;
}

interface IndexState extends Record<string, unknown> {
  generation: number;
  dimensions: number;
  /** null: there is none. false: what an interrupted build left over, or one under way. */
  valid: boolean | null;
  half: boolean;
  /** Whether this pgvector has iterative scans. */
  iterative: boolean;
  /** Over how many vectors ef was chosen; null: not yet. */
  vectors: number | null;
  ef: number | null;
  /** By a server that makes the index or chooses ef. */
  locked: boolean;
}

/**
 * The HNSW indexes of pgvector, one on each generation's vectors when they are many: made by one server at a time in the
 * background, and kept up to date by PostgreSQL. Search goes through one once an ef is chosen that holds the recall.
 */
export class VectorIndexes {
  private states = new Map<number, IndexState>();
  private readonly retries = new Map<number, Backoff>();
  private complaint: string | undefined;
  private working: Promise<void> | undefined;
  private readonly closing = new AbortController();

  constructor(
    private readonly database: Database,
    private readonly options: VectorIndexesOptions,
  ) {}

  /** How the k nearest of a generation are looked for; undefined: exactly. */
  through(generation: number, vectors: number, k: number): ThroughIndex | undefined {
    const state = this.states.get(generation);
    if (!this.wantsIndex(vectors) || k > GRAPH_UP_TO_K || !state?.valid || state.ef === null)
      return undefined;
    return this.throughAt(state, Math.max(state.ef, k), vectors);
  }

  /** Whether a generation's index is being made or measured, and search is exact meanwhile. */
  isBuilding(generation: number, vectors: number): boolean {
    const state = this.states.get(generation);
    const isReady = state?.valid && state.vectors !== null;
    return this.wantsIndex(vectors) && !isReady && !this.retries.get(generation)?.isWaiting;
  }

  /**
   * Looks at what there is, and begins in the background what is lacking.
   *
   * @param generations that are searched and whole, the most urgent first
   */
  async follow(generations: readonly number[], vectors: number): Promise<void> {
    if (!this.wantsIndex(vectors)) return;
    this.states = new Map((await this.read(this.database)).map((state) => [state.generation, state]));
    const isDue = (id: number): boolean => {
      const state = this.states.get(id);
      const isLacking = !state?.valid || state.vectors === null || vectors > CHOOSE_AT_GROWTH * state.vectors;
      return !!state && isLacking && !state.locked && !this.retries.get(id)?.isWaiting;
    };
    const due = generations.find(isDue);
    if (due === undefined || this.working || this.closing.signal.aborted) return;
    if (this.states.get(due)!.valid === null && (await this.growsMuch(vectors))) return;
    const retry = this.retries.get(due) ?? new Backoff(RETRY_AT_MOST_MS);
    this.retries.set(due, retry);
    this.working = retry
      .run(() => this.make(due))
      .then(
        () => (this.complaint = undefined),
        (error: unknown) => this.complain(messageOf(error)),
      )
      .then(() => (this.working = undefined));
  }

  /** Ends the background work. PostgreSQL may go on with an index that it is making. */
  async close(): Promise<void> {
    this.closing.abort();
    await this.working;
  }

  private throughAt({ half, dimensions, iterative }: IndexState, ef: number, vectors: number): ThroughIndex {
    return {
      ef,
      ...(half && { half: dimensions }),
      ...(iterative && { filters: { above: this.options.exactUpTo, of: vectors } }),
    };
  }

  private wantsIndex(vectors: number): boolean {
    return vectors > this.options.exactUpTo && this.options.recall < 1;
  }

  private complain(reason: string): void {
    if (this.closing.signal.aborted || reason === this.complaint) return;
    this.complaint = reason;
    this.options.log?.(`no search through an index, searching exactly: ${reason}`);
  }

  private read(queries: Queries): Promise<IndexState[]> {
    return queries.query<IndexState>(
      // Not by pg_get_indexdef, which fails where the index is dropped meanwhile: it looks past the statement's snapshot.
      `SELECT g.id AS generation, g.dimensions, i.indisvalid AS valid, c.vectors, c.ef,
              EXISTS (SELECT FROM pg_opclass o WHERE o.oid = i.indclass[0] AND o.opcname LIKE 'halfvec%') AS half,
              (SELECT string_to_array(extversion, '.')::int[] >= '{0,8}' FROM pg_extension WHERE extname = 'vector') AS iterative,
              EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = $2 AND l.objid = g.id::oid
                      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS locked
       FROM generations g
       LEFT JOIN pg_index i ON i.indexrelid = to_regclass('vectors_' || g.id || '_hnsw')
       LEFT JOIN chosen_efs c ON c.generation = g.id AND c.recall = $1`,
      [this.options.recall, LOCK],
    );
  }

  /** Whether many documents wait to be embedded: an index that is there makes each of them take several times as long. */
  private async growsMuch(vectors: number): Promise<boolean> {
    // What was given up waits for nobody.
    const [{ waiting }] = await this.database.query<{ waiting: number }>(
      `SELECT count(*) AS waiting FROM (
         SELECT FROM ingest_documents d JOIN ingests i ON i.id = d.ingest WHERE i.error IS NULL LIMIT $1) AS first`,
      [Math.ceil(MUCH * vectors)],
    );
    return waiting >= MUCH * vectors;
  }

  /** On a connection of its own, whose end gives the lock back whatever happens. */
  private async make(generation: number): Promise<void> {
    await this.database.withOwnClient(this.closing.signal, async (client) => {
      const lock = 'SELECT pg_try_advisory_lock($1, $2) AS locked';
      const [{ locked }] = (await client.query<{ locked: boolean }>(lock, [LOCK, generation])).rows;
      const state = (await this.read(this.database)).find((each) => each.generation === generation);
      if (!locked || !state) return;
      if (!state.valid) await makeIndex(client, state);
      await this.chooseEf(generation);
    });
  }

  private async chooseEf(generation: number): Promise<void> {
    const { recall, log } = this.options;
    const table = vectorsTable(generation);
    const state = (await this.read(this.database)).find((each) => each.generation === generation);
    const [{ count }] = await this.database.query<{ count: number }>(`SELECT count(*) FROM ${table}`);
    const rows = await this.database.query<{ vector: string }>(
      `SELECT vector::text FROM ${table} ORDER BY random() LIMIT $1`,
      [2 * CHOICE_QUERIES],
    );
    if (!state || rows.length < 2 * CHOICE_QUERIES) return;
    const choice = new EfChoice();
    for (let i = 0; i < rows.length; i += 2) {
      this.closing.signal.throwIfAborted();
      const query = movedALittle(parseVector(rows[i].vector), parseVector(rows[i + 1].vector), MOVED_BY);
      const recalls = await recallsOf(this.database, table, query, (ef) => this.throughAt(state, ef, count));
      choice.add((ef) => recalls.get(ef)!);
    }
    const ef = choice.least(recall)?.ef ?? null;
    await this.database.query(
      `INSERT INTO chosen_efs (generation, recall, ef, vectors) VALUES ($1, $2, $3, $4)
       ON CONFLICT (generation, recall) DO UPDATE SET ef = excluded.ef, vectors = excluded.vectors`,
      [generation, recall, ef, count],
    );
    if (ef === null)
      log?.(
        `no search through the index holds recall@10 of ${recall} over ${count} vectors: searching exactly`,
      );
  }
}

/** Half precision takes half the memory, and vectors twice as long; PostgreSQL has it from pgvector 0.7. */
async function makeIndex(client: pg.Client, { generation, dimensions }: IndexState): Promise<void> {
  const table = vectorsTable(generation);
  await client.query(`DROP INDEX CONCURRENTLY IF EXISTS ${table}_hnsw`);
  const [{ half }] = (
    await client.query<{ half: boolean }>(`SELECT to_regtype('halfvec') IS NOT NULL AS half`)
  ).rows;
  await client.query(indexStatement(table, half ? dimensions : undefined, 'CONCURRENTLY'));
}

/** @param half the vectors' length, for an index that holds them in half precision */
export function indexStatement(table: string, half?: number, how: 'CONCURRENTLY' | '' = ''): string {
  const indexed = half === undefined ? 'vector vector_ip_ops' : `(vector::halfvec(${half})) halfvec_ip_ops`;
  return `CREATE INDEX ${how} ${table}_hnsw ON ${table} USING hnsw (${indexed}) WITH (${MAKE})`;
}

/** recall@10 of one query by ef, upward until it is 1. */
async function recallsOf(
  database: Database,
  table: string,
  query: Float32Array,
  throughAt: (ef: number) => ThroughIndex,
): Promise<Map<number, number>> {
  const recalls = new Map<number, number>();
  const nearest = { table, vector: '$1::vector', limit: String(RECALL_K) };
  await database.transaction(async (queries) => {
    const ask = (sql: string): Promise<(Scored & Record<string, unknown>)[]> =>
      queries.query(sql, [vectorText(query)]);
    const exact = await ask(exactNearest(nearest));
    for (const ef of EF_LADDER) {
      const index = throughAt(ef);
      await lookThroughIndex(queries, index);
      const recall = recallOf(exact, await ask(indexNearest(nearest, index)));
      recalls.set(ef, recall);
      if (recall === 1) return;
    }
  });
  return recalls;
}
