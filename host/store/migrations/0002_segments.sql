-- Schema 2: receipts may be kept in segments (see src/sqlite/receipts). A store says in `meta` which layout it has; one that
-- says nothing is older than this schema and keeps its receipts as rows.

-- What one commit admitted, packed: no receipt costs a row of its own. Facts are a format number and then the receipts' facts
-- in their order; their bodies stand joined in the file of bodies beside the database.
CREATE TABLE segments (
    first        INTEGER PRIMARY KEY,    -- seq of its first receipt
    count        INTEGER NOT NULL,
    bodies_at    INTEGER NOT NULL,       -- where in the file they begin
    bodies_bytes INTEGER NOT NULL,
    facts        BLOB NOT NULL
) STRICT;

-- From a receipt's id to its seq, filled in key order behind the newest receipts; theirs are in `recent`.
CREATE TABLE receipt_keys (
    id  BLOB PRIMARY KEY,                -- ReceiptId
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys that are not all in `receipt_keys` and `subjects` yet, one row per commit, in the order of commits.
CREATE TABLE recent (
    id      INTEGER PRIMARY KEY,
    first   INTEGER NOT NULL,            -- seq of its first receipt, if it has any
    entries BLOB NOT NULL
) STRICT;

-- Receipts in segments that were not accepted: what `receipts_not_accepted` is to rows.
CREATE TABLE not_accepted (
    seq         INTEGER PRIMARY KEY,
    disposition INTEGER NOT NULL         -- 1 superseded, 2 held
) STRICT;
CREATE INDEX not_accepted_disposition ON not_accepted (disposition);

-- The newest receipt of each origin, as of the last receipt that left `recent`; receipts in segments point at the one before.
ALTER TABLE origins ADD COLUMN newest INTEGER;

-- What a settlement must know, without a look at the receipt.
ALTER TABLE jobs ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
UPDATE jobs SET tenant = (SELECT o.tenant FROM receipts r JOIN origins o ON o.id = r.origin WHERE r.seq = jobs.receipt);
