-- Schema 4 of PostgreSQL: what SQLite's schema 4 says of bulk actions.
CREATE FUNCTION next_bulks() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM bulks); END $$;
CREATE TABLE bulks (
    id BIGINT PRIMARY KEY DEFAULT next_bulks(),
    action TEXT COLLATE "C" NOT NULL,
    list TEXT COLLATE "C" NOT NULL,
    filter TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C",
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    expected BIGINT NOT NULL,
    upto BIGINT NOT NULL,
    place BIGINT NOT NULL,
    done BIGINT NOT NULL,
    passed_over BIGINT NOT NULL,
    looked_at BIGINT NOT NULL,
    state BIGINT NOT NULL,
    ended_at BIGINT,
    ended_by TEXT COLLATE "C",
    ended_why TEXT COLLATE "C"
);
CREATE INDEX bulks_running ON bulks (id) WHERE state = 0;
