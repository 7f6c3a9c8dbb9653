-- Schema 17. What people changed in plugins' state: who, why, and what was there before. An edit is a version of its key: `-id`, so that it is no
-- run's and never comes back.
CREATE TABLE state_edits (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    why    TEXT NOT NULL,
    tenant TEXT NOT NULL,
    plugin TEXT NOT NULL,
    key    TEXT NOT NULL,
    before BLOB,                         -- absent: there was none
    after  BLOB                          -- absent: it was removed
) STRICT;
CREATE INDEX state_edits_key ON state_edits (tenant, plugin, key, id);
