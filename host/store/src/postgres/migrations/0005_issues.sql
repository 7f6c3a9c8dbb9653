-- Schema 5 of PostgreSQL: what SQLite's schema 5 says of issues.
CREATE FUNCTION next_issues() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM issues); END $$;
CREATE TABLE issues (
    id BIGINT PRIMARY KEY DEFAULT next_issues(),
    tenant TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    place TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    state BIGINT NOT NULL,
    changes BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    count BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    run BIGINT NOT NULL,
    receipts TEXT COLLATE "C" NOT NULL,
    changed_at BIGINT NOT NULL,
    changed_by TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX issues_of ON issues (tenant, kind, place, code);
CREATE TABLE issues_grouped (
    what BIGINT PRIMARY KEY,
    upto BIGINT NOT NULL
);
