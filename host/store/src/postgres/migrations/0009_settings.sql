-- Schema 7 of PostgreSQL: what SQLite's schema 6 says of settings. Three small tables, made at once; no other is touched.
CREATE TABLE settings (
    tenant TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    text TEXT COLLATE "C" NOT NULL,
    text_of BIGINT,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, version)
);
CREATE TABLE settings_secrets (
    tenant TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    sealed BYTEA NOT NULL,
    sealed_with TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE TABLE settings_changes (
    tenant TEXT COLLATE "C" PRIMARY KEY,
    number BIGINT NOT NULL
);
