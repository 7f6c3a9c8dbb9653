-- Schema 2. What routes have spent of the budgets of their grants, by window, and which jobs a person let go beyond them. Rows of windows
-- that are over go a day later, a few with each one that is made.
CREATE TABLE budget_counts (
    tenant  TEXT NOT NULL,
    route   TEXT NOT NULL,
    kind    TEXT NOT NULL,               -- of the actions
    unit    TEXT NOT NULL,               -- the currency whose minor units are counted; empty: actions are counted
    span    TEXT NOT NULL,               -- how long the window is: hour, day, month
    ends_at INTEGER NOT NULL,            -- and which it is
    account TEXT NOT NULL,               -- empty: of the route as a whole
    spent   INTEGER NOT NULL,
    PRIMARY KEY (tenant, route, kind, unit, span, ends_at, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_counts_ended ON budget_counts (ends_at);
-- Of a job that runs again: 1 where a person said that its budgets do not bound it.
ALTER TABLE jobs ADD COLUMN beyond_budget INTEGER NOT NULL DEFAULT 0;
