-- Schema 7. Versions that are not run on a route any more, because they failed there again and again.
CREATE TABLE quarantines (
    id        INTEGER PRIMARY KEY,
    tenant    TEXT NOT NULL,
    route     TEXT NOT NULL,
    plugin    TEXT NOT NULL,
    digest    BLOB NOT NULL,
    at        INTEGER NOT NULL,
    faults    INTEGER NOT NULL,          -- in a row
    reason    TEXT NOT NULL,             -- how the last of them ended
    lifted_at INTEGER,
    lifted_by TEXT
) STRICT;
CREATE UNIQUE INDEX quarantines_open ON quarantines (tenant, route, digest) WHERE lifted_at IS NULL;
