-- The facts of receipts stand in the log, beside their bodies; the index says where. Nothing was released with the table of before.
DROP TABLE segments;
CREATE TABLE segments (
    first        INTEGER PRIMARY KEY,    -- seq of its first receipt
    count        INTEGER NOT NULL,
    facts_at     INTEGER NOT NULL,       -- positions in the log
    facts_bytes  INTEGER NOT NULL,
    bodies_at    INTEGER NOT NULL,
    bodies_bytes INTEGER NOT NULL
) STRICT;
