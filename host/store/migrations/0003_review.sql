-- Schema 3: what people decided about receipts that are held. A receipt is never changed; its decision is a row of its own, at
-- most one per receipt, appended and never changed.
CREATE TABLE reviews (
    receipt           INTEGER PRIMARY KEY,  -- receipts.seq
    at                INTEGER NOT NULL,
    actor             TEXT NOT NULL,
    why               TEXT,
    became            INTEGER NOT NULL,     -- 0 accepted, 1 superseded, 2 dismissed
    status            TEXT,                 -- that it was mapped to; NULL when dismissed
    current           TEXT,                 -- that superseded it
    lifecycle_version INTEGER               -- of the lifecycle that judged the status
) STRICT;
