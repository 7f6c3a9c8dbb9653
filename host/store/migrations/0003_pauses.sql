-- Schema 3. Routes and destinations that people paused. A row goes when its place runs again: of a route, once its jobs are due again.
CREATE TABLE pauses (
    tenant  TEXT NOT NULL,
    kind    TEXT NOT NULL,               -- route or destination
    name    TEXT NOT NULL,
    is_over INTEGER NOT NULL DEFAULT 0,  -- 1: jobs that were put off are still to be made due
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    why     TEXT NOT NULL,
    PRIMARY KEY (tenant, kind, name)
) STRICT, WITHOUT ROWID;
