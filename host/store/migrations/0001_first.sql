-- Schema 1. Times are milliseconds since 1970. Rows of receipts, deliveries, runs, actions, attempts and history are
-- appended and never changed; several counts rely on their row numbers having no gaps.

-- What the store knows about itself: `receipt_key`, the 32 random bytes under which receipt ids are made.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest receipt and its link in the hash chain, so that removing the newest receipts shows as well.
-- One row per chain; this store has one chain, number 0.
CREATE TABLE chain_heads (
    chain INTEGER PRIMARY KEY,
    seq   INTEGER NOT NULL,
    link  BLOB NOT NULL
) STRICT;

-- Where events come from: each distinct (tenant, source, family), '' for no family. Tiny. Receipts refer to it instead of
-- repeating three names, and a search by a bare event id or subject tries each of its rows.
CREATE TABLE origins (
    id     INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    source TEXT NOT NULL,
    family TEXT NOT NULL,
    UNIQUE (tenant, source, family)
) STRICT;

-- One row per event that was admitted. The body is last, so that reading the other columns does not touch it.
CREATE TABLE receipts (
    seq                INTEGER PRIMARY KEY,  -- order of admission, from 1, without gaps
    id                 BLOB NOT NULL UNIQUE, -- ReceiptId: the key of deduplication
    origin             INTEGER NOT NULL,     -- origins.id
    event_id           TEXT NOT NULL,
    event_type         TEXT NOT NULL,
    subject            TEXT,
    previous           INTEGER,              -- seq of the subject's receipt before this one
    reading            INTEGER NOT NULL,     -- 0 stateless, 1 mapped, 2 unmapped
    status             TEXT,                 -- the mapped status, or the provider's label that is not mapped
    lifecycle_version  INTEGER,
    occurred_at        INTEGER,
    received_at        INTEGER NOT NULL,
    amount             INTEGER,              -- in minor units
    currency           TEXT,
    attributes         TEXT,                 -- JSON: [["name", "value"], …]; NULL when there are none
    provider           TEXT NOT NULL,
    profile_version    INTEGER NOT NULL,
    scheme             TEXT NOT NULL,
    key_id             TEXT NOT NULL,
    signed_at          INTEGER,
    envelope_version   INTEGER NOT NULL,
    disposition        INTEGER NOT NULL,     -- 0 accepted, 1 superseded, 2 held
    disposition_detail TEXT,                 -- what superseded it, or why it is held
    body_digest        BLOB NOT NULL,        -- SHA-256 of the body
    link               BLOB NOT NULL,        -- the hash chain up to and including this receipt
    body               BLOB NOT NULL
) STRICT;
-- The newest receipts of one tenant. Grows at the end of each origin, so it costs an insert little.
CREATE INDEX receipts_origin ON receipts (origin);
CREATE INDEX receipts_not_accepted ON receipts (disposition) WHERE disposition <> 0;

-- The subjects of events: a keyed hash of (tenant, family, subject). Holds the status that the lifecycle has reached, and
-- the newest receipt, from which `receipts.previous` leads through all others: the index by subject.
CREATE TABLE subjects (
    key    BLOB PRIMARY KEY,
    status TEXT,
    newest INTEGER NOT NULL              -- receipts.seq
) STRICT, WITHOUT ROWID;

-- Redeliveries: the same event id again. `conflict` is 1 when the bytes were others; then the body is kept.
CREATE TABLE deliveries (
    id              INTEGER PRIMARY KEY,
    receipt         INTEGER NOT NULL,    -- receipts.seq
    number          INTEGER NOT NULL,    -- from 2: the first delivery is the receipt itself
    received_at     INTEGER NOT NULL,
    conflict        INTEGER NOT NULL,
    provider        TEXT NOT NULL,
    profile_version INTEGER NOT NULL,
    scheme          TEXT NOT NULL,
    key_id          TEXT NOT NULL,
    signed_at       INTEGER,
    body_digest     BLOB NOT NULL,
    body            BLOB
) STRICT;
CREATE UNIQUE INDEX deliveries_receipt ON deliveries (receipt, number);
CREATE INDEX deliveries_conflict ON deliveries (conflict) WHERE conflict <> 0;

-- One receipt × one route: the unit of work. Of each lane at most one job is ready or leased, the oldest; the others are
-- blocked until it ends. So a claim looks at jobs that may be claimed and at no others, however long a lane is.
CREATE TABLE jobs (
    id       INTEGER PRIMARY KEY,
    receipt  INTEGER NOT NULL,           -- receipts.seq
    route    TEXT NOT NULL,
    lane     INTEGER NOT NULL,
    state    INTEGER NOT NULL,           -- 0 blocked, 1 ready, 2 leased, 3 done, 4 held, 5 dead
    attempts INTEGER NOT NULL DEFAULT 0, -- claims since it was made or last replayed
    due_at   INTEGER NOT NULL,           -- may be claimed from this instant; while leased, the end of the lease
    epoch    INTEGER NOT NULL DEFAULT 0, -- counts leases; only the newest may commit
    worker   TEXT,
    reason   TEXT,                       -- of the last end that was not a success
    replays  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_receipt ON jobs (receipt);
CREATE INDEX jobs_claimable ON jobs (due_at) WHERE state IN (1, 2);
CREATE INDEX jobs_lane ON jobs (lane, state) WHERE state IN (0, 1, 2);
CREATE INDEX jobs_set_aside ON jobs (state) WHERE state IN (4, 5);

-- Route configurations as plugins saw them, each text once.
CREATE TABLE configs (
    digest BLOB PRIMARY KEY,             -- SHA-256 of the text
    text   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One execution of a plugin, with all that it read.
CREATE TABLE runs (
    id            INTEGER PRIMARY KEY,
    job           INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    plugin        TEXT NOT NULL,
    digest        BLOB NOT NULL,
    config_digest BLOB NOT NULL,         -- configs.digest
    runtime       TEXT NOT NULL,
    started_at    INTEGER NOT NULL,
    duration_us   INTEGER NOT NULL,
    fuel          INTEGER NOT NULL,
    outcome       TEXT NOT NULL,
    message       TEXT NOT NULL,
    logs          TEXT NOT NULL          -- JSON: [{"level", "message"}, …]
) STRICT;
CREATE INDEX runs_job ON runs (job);

-- The plugin state that a run read, in its order.
CREATE TABLE run_reads (
    run     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    key     TEXT NOT NULL,
    version INTEGER NOT NULL,            -- 0 when the key did not exist
    value   BLOB,
    PRIMARY KEY (run, at)
) STRICT, WITHOUT ROWID;

-- Plugin state. A value's version is the number of the run that wrote it, so a version never comes back, not even for a key
-- that was removed and written again.
CREATE TABLE plugin_state (
    tenant  TEXT NOT NULL,
    plugin  TEXT NOT NULL,
    key     TEXT NOT NULL,
    version INTEGER NOT NULL,            -- runs.id
    value   BLOB NOT NULL,
    PRIMARY KEY (tenant, plugin, key)
) STRICT, WITHOUT ROWID;

-- The ledger: recorded actions, and proposals that conflict with one (kept for review, without effect).
CREATE TABLE actions (
    id             INTEGER PRIMARY KEY,
    run            INTEGER NOT NULL,
    at             INTEGER NOT NULL,     -- position among the run's proposals
    receipt        INTEGER NOT NULL,     -- receipts.seq
    tenant         TEXT NOT NULL,
    kind           TEXT NOT NULL,
    operation_key  TEXT NOT NULL,
    content_digest BLOB NOT NULL,
    json           TEXT NOT NULL,        -- Action::to_json, byte for byte as delivered
    conflict       INTEGER NOT NULL,     -- 0 recorded, 1 in conflict with the recorded one
    recorded_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX actions_run ON actions (run);
-- One effect per operation; and the way from an operation key to its action.
CREATE UNIQUE INDEX actions_operation ON actions (operation_key, tenant, kind) WHERE conflict = 0;
CREATE INDEX actions_conflict ON actions (operation_key) WHERE conflict = 1;

-- Proposals that repeat a recorded action: nothing happened, and a trace can say so.
CREATE TABLE repeats (
    run    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    action INTEGER NOT NULL,
    PRIMARY KEY (run, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX repeats_action ON repeats (action);

-- One recorded action on its way to one destination. States and columns as in jobs; done means delivered.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY,
    action      INTEGER NOT NULL,
    destination TEXT NOT NULL,
    state       INTEGER NOT NULL,        -- 1 ready, 2 leased, 3 delivered, 5 dead
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_at      INTEGER NOT NULL,
    epoch       INTEGER NOT NULL DEFAULT 0,
    worker      TEXT,
    reason      TEXT,
    replays     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX outbox_action ON outbox (action);
CREATE INDEX outbox_claimable ON outbox (due_at) WHERE state IN (1, 2);
CREATE INDEX outbox_set_aside ON outbox (state) WHERE state IN (4, 5);

-- One try to deliver an outbox entry.
CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    entry       INTEGER NOT NULL,        -- outbox.id
    epoch       INTEGER NOT NULL,        -- of the lease under which it was made
    started_at  INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    end         TEXT NOT NULL,           -- JSON: AttemptEnd
    answer      TEXT NOT NULL
) STRICT;
CREATE INDEX attempts_entry ON attempts (entry);

-- The dead-letter queue: what was given up, exactly one of job and entry set. Stays when replayed.
CREATE TABLE dead_letters (
    id          INTEGER PRIMARY KEY,
    job         INTEGER,
    entry       INTEGER,                 -- outbox.id
    receipt     INTEGER NOT NULL,        -- receipts.seq
    died_at     INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    context     TEXT NOT NULL,           -- JSON: what a person needs to judge a replay
    replayed_at INTEGER
) STRICT;
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE replayed_at IS NULL;
CREATE INDEX dead_letters_job ON dead_letters (job) WHERE job IS NOT NULL;
CREATE INDEX dead_letters_entry ON dead_letters (entry) WHERE entry IS NOT NULL;

-- What people did to a receipt's work: replays, reviews.
CREATE TABLE history (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    receipt INTEGER NOT NULL,            -- receipts.seq
    what    TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;
CREATE INDEX history_receipt ON history (receipt);
