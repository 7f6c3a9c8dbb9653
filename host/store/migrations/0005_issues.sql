-- Schema 5. Issues: dead letters that are one failure, by kind, place and code, and what people say of them.
CREATE TABLE issues (
    id         INTEGER PRIMARY KEY,
    tenant     TEXT NOT NULL,
    kind       TEXT NOT NULL,            -- dead-job, dead-delivery
    place      TEXT NOT NULL,            -- the route, or the destination
    code       TEXT NOT NULL,            -- how the last run ended, or what the destination answered
    state      INTEGER NOT NULL,         -- 0 open, 1 acknowledged, 2 resolved, 3 ignored
    changes    INTEGER NOT NULL,         -- of its state; the newest is told under this number
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    reason     TEXT NOT NULL,            -- of the newest
    run        INTEGER NOT NULL,         -- runs.id of the newest
    receipts   TEXT NOT NULL,            -- JSON: receipts.seq of the newest, a few, the newest first
    changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL,            -- empty: it failed
    why        TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX issues_of ON issues (tenant, kind, place, code);
-- Up to which dead letter they were grouped: one row, once there is one.
CREATE TABLE issues_grouped (
    what INTEGER PRIMARY KEY,            -- 0
    upto INTEGER NOT NULL                -- dead_letters.id
) STRICT;
