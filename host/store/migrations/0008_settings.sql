-- Schema 6. What tenants configure by API: their settings, each version whole, and their secrets, sealed.
CREATE TABLE settings (
    tenant  TEXT NOT NULL,
    version INTEGER NOT NULL,            -- from 1; the highest is in effect
    text    TEXT NOT NULL,
    text_of INTEGER,                     -- the version whose text it has again
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    why     TEXT NOT NULL,
    PRIMARY KEY (tenant, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE settings_secrets (
    tenant      TEXT NOT NULL,
    name        TEXT NOT NULL,
    sealed      BLOB NOT NULL,           -- under a key of the operator's, which is in no store
    sealed_with TEXT NOT NULL,           -- names that key
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    why         TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
-- How often either changed, so that a host reads no more than what it does not know.
CREATE TABLE settings_changes (
    tenant TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
