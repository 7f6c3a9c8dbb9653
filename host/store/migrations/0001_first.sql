-- Times are milliseconds since 1970. Rows of receipts, deliveries, runs, actions, attempts and history are
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
    newest INTEGER,                      -- its newest receipt whose keys are carried; receipts of the log point at the one before
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
    body_commitment    BLOB NOT NULL,        -- HMAC-SHA-256 of the body under a key of the tenant's
    link               BLOB NOT NULL,        -- the hash chain up to and including this receipt
    body               BLOB NOT NULL
) STRICT;
-- The newest receipts of one tenant. Grows at the end of each origin, so it costs an insert little.
CREATE INDEX receipts_origin ON receipts (origin);
CREATE INDEX receipts_not_accepted ON receipts (disposition) WHERE disposition <> 0;

-- Where the receipts of a store with a log stand in it: some of one group's, facts and bodies, in one row. No receipt costs a row of its own.
CREATE TABLE pieces (
    first        INTEGER PRIMARY KEY,    -- seq of its first receipt
    count        INTEGER NOT NULL,
    facts_at     INTEGER NOT NULL,       -- positions in the log
    facts_bytes  INTEGER NOT NULL,
    bodies_at    INTEGER NOT NULL,
    bodies_bytes INTEGER NOT NULL
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

-- Receipts of the log that were not accepted: what `receipts_not_accepted` is to rows.
CREATE TABLE not_accepted (
    seq         INTEGER PRIMARY KEY,
    disposition INTEGER NOT NULL,        -- 1 superseded, 2 held
    origin      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX not_accepted_disposition ON not_accepted (disposition);

-- Accepted receipts without a job: no route took them. One row per commit, from its first such receipt on: 12 bytes for each,
-- the distance of its seq from `first` (4, little end first) and its origin (8). A receipt that is routed later is taken out.
CREATE TABLE unrouted (
    first   INTEGER PRIMARY KEY,
    entries BLOB NOT NULL
) STRICT;

-- The way from an event's id to its receipts, for events that are told apart by what was signed. `name` is the keyed hash that would be the
-- receipt's id if the event's id were what tells it apart. Where that is so, the receipt's own index is the way, and there is no row.
CREATE TABLE event_ids (
    name    BLOB NOT NULL,
    receipt INTEGER NOT NULL,            -- receipts.seq
    PRIMARY KEY (name, receipt)
) STRICT, WITHOUT ROWID;

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
    body_commitment BLOB NOT NULL,
    body            BLOB,
    event    TEXT,                       -- of a conflict or suspected replay: the event as it was read, without its body, as JSON
    origin   INTEGER NOT NULL DEFAULT 0, -- where it came in
    times    INTEGER NOT NULL DEFAULT 1, -- how often it came
    last_at  INTEGER,                    -- and when last
    decided  INTEGER NOT NULL DEFAULT 0  -- by a review; these five alone are ever changed
) STRICT;
CREATE UNIQUE INDEX deliveries_receipt ON deliveries (receipt, number);
CREATE INDEX deliveries_open ON deliveries (origin, received_at) WHERE conflict <> 0 AND decided = 0;

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
-- All receipts' together: 0 the same, 1 conflicts, 2 suspected replays.
CREATE TABLE redelivered_in_all (
    what  INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;
INSERT INTO redelivered_in_all (what, count) VALUES (0, 0), (1, 0), (2, 0);

-- One receipt × one route: the unit of work. Of each lane at most one job is ready or leased, the oldest; the others are
-- blocked until it ends. So a claim looks at jobs that may be claimed and at no others, however long a lane is.
CREATE TABLE jobs (
    id       INTEGER PRIMARY KEY,
    receipt  INTEGER NOT NULL,           -- receipts.seq
    route    TEXT NOT NULL,
    lane     INTEGER NOT NULL,
    state    INTEGER NOT NULL,           -- 0 blocked, 1 ready, 2 leased, 3 done, 4 held, 5 dead, 6 held and dismissed
    attempts INTEGER NOT NULL DEFAULT 0, -- claims since it was made or last replayed
    due_at   INTEGER NOT NULL,           -- may be claimed from this instant; while leased, the end of the lease
    epoch    INTEGER NOT NULL DEFAULT 0, -- counts leases; only the newest may commit
    worker   TEXT,
    reason   TEXT,                       -- of the last end that was not a success
    replays  INTEGER NOT NULL DEFAULT 0,
    tenant   TEXT NOT NULL DEFAULT '',   -- what a settlement must know without a look at the receipt
    ended_at INTEGER                     -- when it was held or died
) STRICT;
CREATE INDEX jobs_receipt ON jobs (receipt);
-- Claims go by turns of tenants: what is due is found by tenant.
CREATE INDEX jobs_claimable ON jobs (tenant, due_at, id) WHERE state IN (1, 2);
-- `< 3` and not a list: SQLite builds a table in memory for each list of three that it compares with, at every change of a job.
CREATE INDEX jobs_lane ON jobs (lane, state) WHERE state < 3;
CREATE INDEX jobs_set_aside ON jobs (state, tenant, route, ended_at) WHERE state > 3;

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

-- The ledger: recorded actions, and proposals that conflict with one (kept for review, without effect, once however often they are proposed:
-- further proposals are `repeats` of the row). An action that a person recorded under another key stands at -1 minus the proposal's position.
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
    recorded_at    INTEGER NOT NULL,
    namespace      TEXT NOT NULL DEFAULT ''-- of the route; an operation belongs to whoever claims it, so that no plugin can take another's
) STRICT;
CREATE INDEX actions_run ON actions (run);
-- One effect per operation; and the way from an operation key to its action.
CREATE UNIQUE INDEX actions_operation ON actions (operation_key, tenant, namespace, kind) WHERE conflict = 0;
CREATE INDEX actions_conflict ON actions (operation_key) WHERE conflict = 1;
-- Those that wait for a person.
CREATE INDEX actions_conflicting ON actions (id) WHERE conflict = 1;

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
    replays     INTEGER NOT NULL DEFAULT 0,
    tenant      TEXT NOT NULL DEFAULT '',
    resend      INTEGER                  -- resends.id, while it is sent again on purpose
) STRICT;
-- One action is sent to one destination once, whoever proposes it and however often.
CREATE UNIQUE INDEX outbox_action ON outbox (action, destination);
-- Claims go by turns of destinations, and pass over those that take nothing.
CREATE INDEX outbox_claimable ON outbox (tenant, destination, due_at, id) WHERE state IN (1, 2);
CREATE INDEX outbox_set_aside ON outbox (state) WHERE state IN (4, 5);

-- One try to deliver an outbox entry.
CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    entry       INTEGER NOT NULL,        -- outbox.id
    epoch       INTEGER NOT NULL,        -- of the lease under which it was made
    started_at  INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    end         TEXT NOT NULL,           -- JSON: AttemptEnd
    answer      TEXT NOT NULL,
    resend      INTEGER                  -- resends.id, of which it is
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

-- What people decided about receipts that are held. A receipt is never changed; its decision is a row of its own, at
-- most one per receipt, appended and never changed.
CREATE TABLE reviews (
    receipt           INTEGER PRIMARY KEY,  -- receipts.seq
    at                INTEGER NOT NULL,
    actor             TEXT NOT NULL,
    why               TEXT,
    became            INTEGER NOT NULL,     -- 0 accepted, 1 superseded, 2 dismissed, 3 replaced by a delivery
    status            TEXT,                 -- that it was mapped to; NULL when dismissed
    current           TEXT,                 -- that superseded it
    lifecycle_version INTEGER,              -- of the lifecycle that judged the status
    delivery          INTEGER,              -- that replaced it
    own               INTEGER               -- receipts.seq of the event of its own that the delivery became
) STRICT;

-- What people decided about held jobs, conflicting deliveries and conflicting actions, exactly one of the three set. Appended, never changed.
CREATE TABLE work_reviews (
    id       INTEGER PRIMARY KEY,
    job      INTEGER,
    delivery INTEGER,
    at       INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    why      TEXT,
    became   INTEGER NOT NULL,           -- 2 dismissed, 4 run again, 5 an event of its own, 6 the recorded action kept, 7 recorded under a new key
    own      INTEGER,                    -- receipts.seq of that event
    action   INTEGER,                    -- the conflicting one
    effect   INTEGER                     -- the action that stands for it
) STRICT;
CREATE INDEX work_reviews_job ON work_reviews (job) WHERE job IS NOT NULL;
CREATE INDEX work_reviews_delivery ON work_reviews (delivery) WHERE delivery IS NOT NULL;
CREATE UNIQUE INDEX work_reviews_action ON work_reviews (action) WHERE action IS NOT NULL;

-- Tokens of the private listener: whoever holds one is the caller that its row describes. Rows are never removed.
CREATE TABLE tokens (
    id         INTEGER PRIMARY KEY,
    digest     BLOB NOT NULL UNIQUE,     -- SHA-256 of the token, which is not kept
    name       TEXT NOT NULL,
    role       TEXT NOT NULL,
    tenant     TEXT,                     -- NULL for the whole host
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    revoked_by TEXT,
    why         TEXT NOT NULL DEFAULT '',  -- it was made, and ended; empty where nobody said
    revoked_why TEXT NOT NULL DEFAULT ''
) STRICT;

-- The plugin registry: components, their versions, which of them each route runs, whose signatures count, routes set by
-- API, and what is known of versions before they have effects.

-- Components by their digest, each once whoever owns it. Never removed: recorded runs name them.
CREATE TABLE components (
    digest BLOB PRIMARY KEY,             -- SHA-256 of the bytes
    bytes  BLOB NOT NULL
) STRICT;

-- One row per component, owner and name: the configuration may offer one file under several names.
CREATE TABLE plugin_versions (
    id        INTEGER PRIMARY KEY,
    owner     TEXT NOT NULL,             -- a tenant, '' for the operator: then every tenant may bind it
    digest    BLOB NOT NULL,             -- components.digest
    name      TEXT NOT NULL,
    version   TEXT NOT NULL,             -- the author's, for people
    publisher TEXT NOT NULL,             -- as the manifest says; proven by the signature only
    standing  INTEGER NOT NULL,          -- 0 vetted, 1 published, 2 retired
    manifest  TEXT NOT NULL,             -- JSON
    report    TEXT NOT NULL,             -- JSON: what vetting found
    signature TEXT,                      -- JSON: tollgate-plugin-signature
    added_at  INTEGER NOT NULL,
    added_by  TEXT NOT NULL,
    UNIQUE (owner, digest, name)
) STRICT;
CREATE INDEX plugin_versions_name ON plugin_versions (owner, name, version);

-- Which versions a route runs: one row per route, so that a change is one UPDATE.
CREATE TABLE plugin_bindings (
    tenant     TEXT NOT NULL,
    route      TEXT NOT NULL,
    plugin     TEXT NOT NULL,
    active     BLOB NOT NULL,
    canary     BLOB,
    share      INTEGER,                  -- of the canary, in thousandths
    shadow     BLOB,
    previous   TEXT NOT NULL,            -- JSON: digests that were active before, the newest last
    by_hand    INTEGER NOT NULL,         -- 0 while it follows the configuration file
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, route)
) STRICT, WITHOUT ROWID;

-- Who changed what in the registry, when and why. Appended, never changed.
CREATE TABLE plugin_history (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    what   TEXT NOT NULL,
    why    TEXT,
    tenant TEXT NOT NULL,                -- '' for what is the operator's
    route  TEXT,
    plugin TEXT,
    digest BLOB,                         -- that it is about
    was    TEXT,
    became TEXT
) STRICT;
CREATE INDEX plugin_history_digest ON plugin_history (digest) WHERE digest IS NOT NULL;
CREATE INDEX plugin_history_route ON plugin_history (tenant, route) WHERE route IS NOT NULL;

-- Whose signatures a tenant believes. A revoked key stays, so that its id never means another key.
CREATE TABLE publisher_keys (
    tenant        TEXT NOT NULL,
    publisher     TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    public_key    BLOB NOT NULL,         -- Ed25519, 32 bytes
    registered_at INTEGER NOT NULL,
    registered_by TEXT NOT NULL,
    revoked_at    INTEGER,
    revoked_by    TEXT,
    PRIMARY KEY (tenant, publisher, key_id)
) STRICT, WITHOUT ROWID;

-- Routes that were set by API; one stands in for the configuration file's of the same name.
CREATE TABLE api_routes (
    tenant     TEXT NOT NULL,
    route      TEXT NOT NULL,
    definition TEXT NOT NULL,            -- JSON, the same keys as in the file
    changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (tenant, route)
) STRICT, WITHOUT ROWID;

-- What a shadow did beside an active version's run. Nothing of it had any effect.
CREATE TABLE shadow_runs (
    id             INTEGER PRIMARY KEY,
    run            INTEGER NOT NULL,     -- runs.id of the active version
    tenant         TEXT NOT NULL,
    route          TEXT NOT NULL,
    active         BLOB NOT NULL,
    shadow         BLOB NOT NULL,
    started_at     INTEGER NOT NULL,
    duration_us    INTEGER NOT NULL,
    fuel           INTEGER NOT NULL,
    outcome        TEXT NOT NULL,
    message        TEXT NOT NULL,
    actions        TEXT NOT NULL,        -- JSON: [{"operation_key", "kind", "action"}, …]
    active_outcome TEXT NOT NULL,
    active_actions TEXT NOT NULL,
    active_fuel    INTEGER NOT NULL,
    beyond_record  INTEGER NOT NULL,     -- 1 when it read state that the active run had not
    differs        INTEGER NOT NULL
) STRICT;
CREATE INDEX shadow_runs_route ON shadow_runs (tenant, route, shadow);

-- How often a shadow ran and differed, against which active version.
CREATE TABLE shadow_tallies (
    tenant      TEXT NOT NULL,
    route       TEXT NOT NULL,
    active      BLOB NOT NULL,
    shadow      BLOB NOT NULL,
    runs        INTEGER NOT NULL,
    differences INTEGER NOT NULL,
    PRIMARY KEY (tenant, route, active, shadow)
) STRICT, WITHOUT ROWID;

-- Trials over recorded runs.
CREATE TABLE plugin_trials (
    id          INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    route       TEXT NOT NULL,
    active      BLOB NOT NULL,
    candidate   BLOB NOT NULL,
    runs        INTEGER NOT NULL,
    differences INTEGER NOT NULL,
    unreadable  INTEGER NOT NULL DEFAULT 0  -- after how many runs the active version could not go on with state that the candidate had written
) STRICT;
CREATE INDEX plugin_trials_route ON plugin_trials (tenant, route, candidate, active);

-- Versions that are not run on a route any more, because they failed there again and again.
CREATE TABLE quarantines (
    id        INTEGER PRIMARY KEY,
    tenant    TEXT NOT NULL,
    route     TEXT NOT NULL,
    plugin    TEXT NOT NULL,
    digest    BLOB NOT NULL,
    at        INTEGER NOT NULL,
    faults    INTEGER NOT NULL,          -- in a row
    reason    TEXT NOT NULL,             -- how the last of them ended
    lifted_at INTEGER,
    lifted_by TEXT
) STRICT;
CREATE UNIQUE INDEX quarantines_open ON quarantines (tenant, route, digest) WHERE lifted_at IS NULL;

-- Runs in a row that ended in a fault of the plugin's, by version and route, for hosts that remember nothing from one request to the
-- next. A run that goes well removes the row, and so does a quarantine.
CREATE TABLE fault_rows (
    tenant TEXT NOT NULL,
    route  TEXT NOT NULL,
    digest BLOB NOT NULL,
    faults INTEGER NOT NULL,
    PRIMARY KEY (tenant, route, digest)
) STRICT, WITHOUT ROWID;

-- Under which namespace each route records its operations: whoever moves a route to another hears that what it did before is
-- not recognised there. A route that was removed keeps its row, and comes back to it.
CREATE TABLE route_namespaces (
    tenant    TEXT NOT NULL,
    route     TEXT NOT NULL,
    namespace TEXT NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (tenant, route)
) STRICT, WITHOUT ROWID;

-- How much state a plugin has for a tenant, all keys together: what a route's quota bounds.
CREATE TABLE plugin_state_totals (
    tenant TEXT NOT NULL,
    plugin TEXT NOT NULL,
    bytes  INTEGER NOT NULL,             -- keys and values
    PRIMARY KEY (tenant, plugin)
) STRICT, WITHOUT ROWID;

-- What people changed in plugins' state: who, why, and what was there before. An edit is a version of its key: `-id`, so that it is no
-- run's and never comes back.
CREATE TABLE state_edits (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    why    TEXT NOT NULL,
    tenant TEXT NOT NULL,
    plugin TEXT NOT NULL,
    key    TEXT NOT NULL,
    before BLOB,                         -- absent: there was none
    after  BLOB                          -- absent: it was removed
) STRICT;
CREATE INDEX state_edits_key ON state_edits (tenant, plugin, key, id);

-- What was delivered can be sent again on purpose: who asked for it and why, and which attempts are of it.
CREATE TABLE resends (
    id    INTEGER PRIMARY KEY,
    at    INTEGER NOT NULL,
    actor TEXT NOT NULL,
    why   TEXT NOT NULL
) STRICT;
