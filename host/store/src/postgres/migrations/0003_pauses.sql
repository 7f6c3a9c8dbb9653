-- Schema 3 of PostgreSQL: what SQLite's schema 3 says of pauses.
CREATE TABLE pauses (
    tenant TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    is_over BIGINT NOT NULL DEFAULT 0,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, kind, name)
);
