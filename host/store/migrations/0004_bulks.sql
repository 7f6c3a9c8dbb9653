-- Schema 4. Bulk actions: what was begun, and how far each has come. A step's work and its place are one commit.
CREATE TABLE bulks (
    id          INTEGER PRIMARY KEY,
    action      TEXT NOT NULL,           -- replay, redeliver, route, dismiss
    list        TEXT NOT NULL,           -- jobs, deliveries, events: what the filter is of
    filter      TEXT NOT NULL,           -- as it was written; read as of started_at
    tenant      TEXT,                    -- null: of all tenants
    actor       TEXT NOT NULL,
    why         TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    expected    INTEGER NOT NULL,        -- how many fitted then, as far as one count looks
    upto        INTEGER NOT NULL,        -- the newest place of the list that it is about
    place       INTEGER NOT NULL,        -- from here on up to that one everything was looked at
    done        INTEGER NOT NULL,
    passed_over INTEGER NOT NULL,
    looked_at   INTEGER NOT NULL,
    state       INTEGER NOT NULL,        -- 0 running, 1 done, 2 aborted
    ended_at    INTEGER,
    ended_by    TEXT,
    ended_why   TEXT
) STRICT;
CREATE INDEX bulks_running ON bulks (id) WHERE state = 0;
