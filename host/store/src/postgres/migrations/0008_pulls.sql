-- Schema 8 of PostgreSQL: what SQLite's schema 7 says of pulled destinations.
ALTER TABLE outbox ADD COLUMN pulled_at BIGINT;
