-- Schema 12 of PostgreSQL: each schema says from which on hosts may work on in it, so that two versions of Tollgate run side by side while hosts are
-- brought up to date one by one. One table of as many rows as there are schemas. And counts of rates say when they began.
ALTER TABLE schema_version ADD COLUMN works_with BIGINT;
ALTER TABLE rates ADD COLUMN made_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp();
