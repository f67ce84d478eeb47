import type { MigrationBuilder } from 'node-pg-migrate';

/** Where the collection was migrated from: one row, or none. Until it is finished no server opens the collection. */
export function up(migration: MigrationBuilder): void {
  migration.sql(`
    CREATE TABLE migrated_from (
      source text NOT NULL,
      begun text NOT NULL,
      finished text
    );
  `);
}

/** Migrations go forward; a backup is the way back. */
export const down = false;
