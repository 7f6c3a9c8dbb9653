-- Schema 12 of PostgreSQL: each schema says from which on hosts may work on in it, so that two versions of Tollgate run side by side while hosts are
-- brought up to date one by one. One table of as many rows as there are schemas.
ALTER TABLE schema_version ADD COLUMN works_with BIGINT;
