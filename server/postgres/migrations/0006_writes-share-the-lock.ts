import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * Whoever writes what a migration takes along, or what it waits for, shares the lock of open-lock.ts to the end of the
 * transaction: so nothing is written once a migration has the collection for itself, even by a server whose connection that says
 * that it has it open was cut. Vectors come with documents. The migration's own writes are on the connection that has the lock.
 */
export function up(migration: MigrationBuilder): void {
  migration.sql(`
    CREATE FUNCTION share_with_migrations() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NOT pg_try_advisory_xact_lock_shared(760401176) THEN
        RAISE object_in_use USING MESSAGE = 'a migration has the collection';
      END IF;
      RETURN NULL;
    END $$;
    ${['documents', 'feedback', 'generations', 'ingest_documents', 'jobs']
      .map(
        (table) => `
    CREATE TRIGGER share_with_migrations BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ${table}
      FOR EACH STATEMENT EXECUTE FUNCTION share_with_migrations();`,
      )
      .join('')}
  `);
}

/** Migrations go forward; a backup is the way back. */
export const down = false;
