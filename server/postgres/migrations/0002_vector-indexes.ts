import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * How widely a search looks through a generation's index for a recall@10 to hold, as measured over so many vectors; without
 * `ef` no width held it. The index itself is made when there are many vectors (vector-indexes.ts).
 */
export function up(migration: MigrationBuilder): void {
  migration.sql(`
    CREATE TABLE chosen_efs (
      generation integer REFERENCES generations ON DELETE CASCADE,
      recall float8,
      ef integer,
      vectors bigint NOT NULL,
      PRIMARY KEY (generation, recall)
    );
  `);
}

/** Migrations go forward; a backup is the way back. */
export const down = false;
