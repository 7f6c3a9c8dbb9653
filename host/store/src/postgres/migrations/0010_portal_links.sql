-- Schema 10 of PostgreSQL: what SQLite's schema 9 says of portal links. Three columns without a default, which rewrites nothing.
ALTER TABLE tokens ADD COLUMN capabilities TEXT COLLATE "C";
ALTER TABLE tokens ADD COLUMN accent TEXT COLLATE "C";
ALTER TABLE tokens ADD COLUMN scheme TEXT COLLATE "C";
