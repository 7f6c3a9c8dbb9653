-- Schema 6 of PostgreSQL: the hosts as people see them. Two small tables, made at once; no other is touched.

-- What each host says of itself, once a second. Apart from `hosts`, whose row a host's writer has locked while its commit waits, perhaps for a standby.
CREATE TABLE heartbeats (
    host BIGINT PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    process TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at TIMESTAMPTZ,
    configuration TEXT COLLATE "C" NOT NULL DEFAULT '',
    lag_ms BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX heartbeats_name ON heartbeats (name, host);

-- The hosts that are to claim nothing, by name.
CREATE TABLE drains (
    name TEXT COLLATE "C" PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C" NOT NULL
);
