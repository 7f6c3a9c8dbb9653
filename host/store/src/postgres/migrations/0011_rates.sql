-- Schema 11 of PostgreSQL: how much of their rates tenants used up on each host, in requests since its row was made. One small table, made at once; no
-- other is touched. It is empty after a crash of the server, and each host adds what is new from there on.
CREATE UNLOGGED TABLE rates (
    tenant TEXT COLLATE "C" NOT NULL,
    host BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    PRIMARY KEY (host, tenant)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
