-- The way from an event's id to its receipts, for events that are told apart by what was signed. `name` is the keyed hash that would be the
-- receipt's id if the event's id were what tells it apart. Where that is so, the receipt's own index is the way, and there is no row.
CREATE TABLE event_ids (
    name    BLOB NOT NULL,
    receipt INTEGER NOT NULL,            -- receipts.seq
    PRIMARY KEY (name, receipt)
) STRICT, WITHOUT ROWID;
