-- Schema 12. What is set aside can be found and counted, and what is kept of redeliveries is bounded.

-- When a job was held or died; NULL in jobs of older schemas.
ALTER TABLE jobs ADD COLUMN ended_at INTEGER;
-- State 6 is new: a job that was held, and that somebody dismissed.
DROP INDEX jobs_set_aside;
CREATE INDEX jobs_set_aside ON jobs (state, tenant, route, ended_at) WHERE state > 3;

-- Where superseded and held receipts came in; 0 in rows of older schemas.
ALTER TABLE not_accepted ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;

-- Accepted receipts without a job: no route took them. One row per commit, from its first such receipt on: 12 bytes for each,
-- the distance of its seq from `first` (4, little end first) and its origin (8). A receipt that is routed later is taken out.
CREATE TABLE unrouted (
    first   INTEGER PRIMARY KEY,
    entries BLOB NOT NULL
) STRICT;

-- How often each receipt was delivered again, beside the deliveries that are kept one by one.
CREATE TABLE redelivered (
    receipt        INTEGER PRIMARY KEY,  -- receipts.seq
    same           INTEGER NOT NULL,     -- the same event
    conflicts      INTEGER NOT NULL,     -- its id with other bytes
    suspected      INTEGER NOT NULL,     -- its signed message under another id or type
    kept_same      INTEGER NOT NULL,
    kept_conflicts INTEGER NOT NULL,     -- and suspected replays
    kept_bytes     INTEGER NOT NULL,     -- of their bodies
    last_at        INTEGER NOT NULL
) STRICT;
INSERT INTO redelivered (receipt, same, conflicts, suspected, kept_same, kept_conflicts, kept_bytes, last_at)
    SELECT receipt, count(*) FILTER (WHERE conflict = 0), count(*) FILTER (WHERE conflict = 1),
           count(*) FILTER (WHERE conflict = 2), count(*) FILTER (WHERE conflict = 0),
           count(*) FILTER (WHERE conflict <> 0), coalesce(sum(length(body)), 0), max(received_at)
    FROM deliveries GROUP BY receipt;
-- All receipts' together: 0 the same, 1 conflicts, 2 suspected replays.
CREATE TABLE redelivered_in_all (
    what  INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;
INSERT INTO redelivered_in_all (what, count) SELECT 0, coalesce(sum(same), 0) FROM redelivered;
INSERT INTO redelivered_in_all (what, count) SELECT 1, coalesce(sum(conflicts), 0) FROM redelivered;
INSERT INTO redelivered_in_all (what, count) SELECT 2, coalesce(sum(suspected), 0) FROM redelivered;

-- Of a conflict or suspected replay: the event as it was read, without its body, as JSON; where it came in; how often it came, and when last;
-- and what was decided, by a review. These alone of a delivery's columns are ever changed.
ALTER TABLE deliveries ADD COLUMN event TEXT;
ALTER TABLE deliveries ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deliveries ADD COLUMN last_at INTEGER;
ALTER TABLE deliveries ADD COLUMN decided INTEGER NOT NULL DEFAULT 0;
DROP INDEX deliveries_conflict;
CREATE INDEX deliveries_open ON deliveries (origin, received_at) WHERE conflict <> 0 AND decided = 0;

-- A held receipt may be replaced by a delivery (became 3), which is an event of its own.
ALTER TABLE reviews ADD COLUMN delivery INTEGER;
ALTER TABLE reviews ADD COLUMN own INTEGER;

-- What people decided about held jobs and conflicting deliveries, exactly one of the two set. Appended, never changed.
CREATE TABLE work_reviews (
    id       INTEGER PRIMARY KEY,
    job      INTEGER,
    delivery INTEGER,
    at       INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    why      TEXT,
    became   INTEGER NOT NULL,           -- 2 dismissed, 4 run again, 5 an event of its own
    own      INTEGER                     -- receipts.seq of that event
) STRICT;
CREATE INDEX work_reviews_job ON work_reviews (job) WHERE job IS NOT NULL;
CREATE INDEX work_reviews_delivery ON work_reviews (delivery) WHERE delivery IS NOT NULL;
