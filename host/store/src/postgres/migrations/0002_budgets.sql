-- Schema 2 of PostgreSQL: what SQLite's schema 2 says of budgets.
CREATE TABLE budget_counts (
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    unit TEXT COLLATE "C" NOT NULL,
    span TEXT COLLATE "C" NOT NULL,
    ends_at BIGINT NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    spent BIGINT NOT NULL,
    PRIMARY KEY (tenant, route, kind, unit, span, ends_at, account)
) WITH (fillfactor = 70);
CREATE INDEX budget_counts_ended ON budget_counts (ends_at, tenant, route, kind, unit, span, account);
ALTER TABLE jobs ADD COLUMN beyond_budget BIGINT NOT NULL DEFAULT 0;
