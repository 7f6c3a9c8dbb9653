-- Schema 1 of PostgreSQL: the tables of the row layout as the SQLite migrations leave them, where each column is described, and what
-- only many hosts need. Runs in one transaction, in the schema `tollgate`.
--
-- Numbers have no gaps, as in SQLite: each next one is behind the largest. Whoever writes has locked the chain's head, so nobody else takes
-- the same; a sequence would lose a number with each rollback, and several counts are the largest number.

CREATE FUNCTION next_origins() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM origins); END $$;
CREATE FUNCTION next_deliveries() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM deliveries); END $$;
CREATE FUNCTION next_jobs() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM jobs); END $$;
CREATE FUNCTION next_runs() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM runs); END $$;
CREATE FUNCTION next_actions() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM actions); END $$;
CREATE FUNCTION next_outbox() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM outbox); END $$;
CREATE FUNCTION next_attempts() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM attempts); END $$;
CREATE FUNCTION next_dead_letters() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM dead_letters); END $$;
CREATE FUNCTION next_history() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM history); END $$;
CREATE FUNCTION next_tokens() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM tokens); END $$;
CREATE FUNCTION next_plugin_versions() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM plugin_versions); END $$;
CREATE FUNCTION next_plugin_history() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM plugin_history); END $$;
CREATE FUNCTION next_shadow_runs() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM shadow_runs); END $$;
CREATE FUNCTION next_plugin_trials() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM plugin_trials); END $$;
CREATE FUNCTION next_quarantines() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM quarantines); END $$;
CREATE FUNCTION next_work_reviews() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM work_reviews); END $$;
CREATE FUNCTION next_resends() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM resends); END $$;
CREATE FUNCTION next_state_edits() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM state_edits); END $$;
CREATE FUNCTION next_hosts() RETURNS BIGINT LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT coalesce(max(id), 0) + 1 FROM hosts); END $$;

CREATE TABLE meta (
    name TEXT COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);
CREATE TABLE chain_heads (
    chain BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    link BYTEA NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE origins (
    id BIGINT PRIMARY KEY DEFAULT next_origins(),
    tenant TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    family TEXT COLLATE "C" NOT NULL,
    UNIQUE (tenant, source, family)
);
CREATE TABLE receipts (
    seq BIGINT PRIMARY KEY,
    id BYTEA NOT NULL,
    origin BIGINT NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    event_type TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C",
    previous BIGINT,
    reading BIGINT NOT NULL,
    status TEXT COLLATE "C",
    lifecycle_version BIGINT,
    occurred_at BIGINT,
    received_at BIGINT NOT NULL,
    amount BIGINT,
    currency TEXT COLLATE "C",
    attributes TEXT COLLATE "C",
    provider TEXT COLLATE "C" NOT NULL,
    profile_version BIGINT NOT NULL,
    scheme TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    signed_at BIGINT,
    envelope_version BIGINT NOT NULL,
    disposition BIGINT NOT NULL,
    disposition_detail TEXT COLLATE "C",
    body_commitment BYTEA NOT NULL,
    link BYTEA NOT NULL,
    body BYTEA NOT NULL,
    UNIQUE (id)
);
CREATE TABLE subjects (
    key BYTEA PRIMARY KEY,
    status TEXT COLLATE "C",
    newest BIGINT NOT NULL
);
CREATE TABLE deliveries (
    id BIGINT PRIMARY KEY DEFAULT next_deliveries(),
    receipt BIGINT NOT NULL,
    number BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    conflict BIGINT NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    profile_version BIGINT NOT NULL,
    scheme TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    signed_at BIGINT,
    body_commitment BYTEA NOT NULL,
    body BYTEA,
    event TEXT COLLATE "C",
    origin BIGINT NOT NULL DEFAULT 0,
    times BIGINT NOT NULL DEFAULT 1,
    last_at BIGINT,
    decided BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE jobs (
    id BIGINT PRIMARY KEY DEFAULT next_jobs(),
    receipt BIGINT NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    lane BIGINT NOT NULL,
    state BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    worker TEXT COLLATE "C",
    reason TEXT COLLATE "C",
    replays BIGINT NOT NULL DEFAULT 0,
    tenant TEXT COLLATE "C" NOT NULL DEFAULT '',
    ended_at BIGINT
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE TABLE configs (
    digest BYTEA PRIMARY KEY,
    text TEXT COLLATE "C" NOT NULL
);
CREATE TABLE runs (
    id BIGINT PRIMARY KEY DEFAULT next_runs(),
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    config_digest BYTEA NOT NULL,
    runtime TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    fuel BIGINT NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    logs TEXT COLLATE "C" NOT NULL
);
CREATE TABLE run_reads (
    run BIGINT NOT NULL,
    at BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    value BYTEA,
    PRIMARY KEY (run, at)
);
CREATE TABLE plugin_state (
    tenant TEXT COLLATE "C" NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    value BYTEA NOT NULL,
    PRIMARY KEY (tenant, plugin, key)
);
CREATE TABLE actions (
    id BIGINT PRIMARY KEY DEFAULT next_actions(),
    run BIGINT NOT NULL,
    at BIGINT NOT NULL,
    receipt BIGINT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    operation_key TEXT COLLATE "C" NOT NULL,
    content_digest BYTEA NOT NULL,
    json TEXT COLLATE "C" NOT NULL,
    conflict BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE TABLE repeats (
    run BIGINT NOT NULL,
    at BIGINT NOT NULL,
    action BIGINT NOT NULL,
    PRIMARY KEY (run, at)
);
CREATE TABLE outbox (
    id BIGINT PRIMARY KEY DEFAULT next_outbox(),
    action BIGINT NOT NULL,
    destination TEXT COLLATE "C" NOT NULL,
    state BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    worker TEXT COLLATE "C",
    reason TEXT COLLATE "C",
    replays BIGINT NOT NULL DEFAULT 0,
    tenant TEXT COLLATE "C" NOT NULL DEFAULT '',
    resend BIGINT
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE TABLE attempts (
    id BIGINT PRIMARY KEY DEFAULT next_attempts(),
    entry BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    "end" TEXT COLLATE "C" NOT NULL,
    answer TEXT COLLATE "C" NOT NULL,
    resend BIGINT
);
CREATE TABLE dead_letters (
    id BIGINT PRIMARY KEY DEFAULT next_dead_letters(),
    job BIGINT,
    entry BIGINT,
    receipt BIGINT NOT NULL,
    died_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    context TEXT COLLATE "C" NOT NULL,
    replayed_at BIGINT
);
CREATE TABLE history (
    id BIGINT PRIMARY KEY DEFAULT next_history(),
    at BIGINT NOT NULL,
    receipt BIGINT NOT NULL,
    what TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C" NOT NULL
);
CREATE TABLE reviews (
    receipt BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C",
    became BIGINT NOT NULL,
    status TEXT COLLATE "C",
    current TEXT COLLATE "C",
    lifecycle_version BIGINT,
    delivery BIGINT,
    own BIGINT
);
CREATE TABLE tokens (
    id BIGINT PRIMARY KEY DEFAULT next_tokens(),
    digest BYTEA NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    revoked_by TEXT COLLATE "C",
    why TEXT COLLATE "C" NOT NULL DEFAULT '',
    revoked_why TEXT COLLATE "C" NOT NULL DEFAULT '',
    UNIQUE (digest)
);
CREATE TABLE components (
    digest BYTEA PRIMARY KEY,
    bytes BYTEA NOT NULL
);
CREATE TABLE plugin_versions (
    id BIGINT PRIMARY KEY DEFAULT next_plugin_versions(),
    owner TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    publisher TEXT COLLATE "C" NOT NULL,
    standing BIGINT NOT NULL,
    manifest TEXT COLLATE "C" NOT NULL,
    report TEXT COLLATE "C" NOT NULL,
    signature TEXT COLLATE "C",
    added_at BIGINT NOT NULL,
    added_by TEXT COLLATE "C" NOT NULL,
    UNIQUE (owner, digest, name)
);
CREATE TABLE plugin_bindings (
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    active BYTEA NOT NULL,
    canary BYTEA,
    share BIGINT,
    shadow BYTEA,
    previous TEXT COLLATE "C" NOT NULL,
    by_hand BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, route)
);
CREATE TABLE plugin_history (
    id BIGINT PRIMARY KEY DEFAULT next_plugin_history(),
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    what TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C",
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C",
    plugin TEXT COLLATE "C",
    digest BYTEA,
    was TEXT COLLATE "C",
    became TEXT COLLATE "C"
);
CREATE TABLE publisher_keys (
    tenant TEXT COLLATE "C" NOT NULL,
    publisher TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    public_key BYTEA NOT NULL,
    registered_at BIGINT NOT NULL,
    registered_by TEXT COLLATE "C" NOT NULL,
    revoked_at BIGINT,
    revoked_by TEXT COLLATE "C",
    PRIMARY KEY (tenant, publisher, key_id)
);
CREATE TABLE api_routes (
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    definition TEXT COLLATE "C" NOT NULL,
    changed_at BIGINT NOT NULL,
    changed_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, route)
);
CREATE TABLE shadow_runs (
    id BIGINT PRIMARY KEY DEFAULT next_shadow_runs(),
    run BIGINT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    active BYTEA NOT NULL,
    shadow BYTEA NOT NULL,
    started_at BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    fuel BIGINT NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    actions TEXT COLLATE "C" NOT NULL,
    active_outcome TEXT COLLATE "C" NOT NULL,
    active_actions TEXT COLLATE "C" NOT NULL,
    active_fuel BIGINT NOT NULL,
    beyond_record BIGINT NOT NULL,
    differs BIGINT NOT NULL
);
CREATE TABLE shadow_tallies (
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    active BYTEA NOT NULL,
    shadow BYTEA NOT NULL,
    runs BIGINT NOT NULL,
    differences BIGINT NOT NULL,
    PRIMARY KEY (tenant, route, active, shadow)
);
CREATE TABLE plugin_trials (
    id BIGINT PRIMARY KEY DEFAULT next_plugin_trials(),
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    active BYTEA NOT NULL,
    candidate BYTEA NOT NULL,
    runs BIGINT NOT NULL,
    differences BIGINT NOT NULL,
    unreadable BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE quarantines (
    id BIGINT PRIMARY KEY DEFAULT next_quarantines(),
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    at BIGINT NOT NULL,
    faults BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    lifted_at BIGINT,
    lifted_by TEXT COLLATE "C"
);
CREATE TABLE plugin_state_totals (
    tenant TEXT COLLATE "C" NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (tenant, plugin)
);
CREATE TABLE event_ids (
    name BYTEA NOT NULL,
    receipt BIGINT NOT NULL,
    PRIMARY KEY (name, receipt)
);
CREATE TABLE unrouted (
    first BIGINT PRIMARY KEY,
    entries BYTEA NOT NULL
);
CREATE TABLE redelivered (
    receipt BIGINT PRIMARY KEY,
    same BIGINT NOT NULL,
    conflicts BIGINT NOT NULL,
    suspected BIGINT NOT NULL,
    kept_same BIGINT NOT NULL,
    kept_conflicts BIGINT NOT NULL,
    kept_bytes BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
CREATE TABLE redelivered_in_all (
    what BIGINT PRIMARY KEY,
    count BIGINT NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE work_reviews (
    id BIGINT PRIMARY KEY DEFAULT next_work_reviews(),
    job BIGINT,
    delivery BIGINT,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C",
    became BIGINT NOT NULL,
    own BIGINT,
    action BIGINT,
    effect BIGINT
);
CREATE TABLE route_namespaces (
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (tenant, route)
);
CREATE TABLE resends (
    id BIGINT PRIMARY KEY DEFAULT next_resends(),
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C" NOT NULL
);
CREATE TABLE state_edits (
    id BIGINT PRIMARY KEY DEFAULT next_state_edits(),
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    why TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    before BYTEA,
    after BYTEA
);
CREATE TABLE fault_rows (
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    faults BIGINT NOT NULL,
    PRIMARY KEY (tenant, route, digest)
);

CREATE INDEX receipts_origin ON receipts (origin);
CREATE INDEX receipts_not_accepted ON receipts (disposition) WHERE disposition <> 0;
CREATE UNIQUE INDEX deliveries_receipt ON deliveries (receipt, number);
CREATE INDEX jobs_receipt ON jobs (receipt);
CREATE INDEX runs_job ON runs (job);
CREATE INDEX actions_run ON actions (run);
CREATE INDEX actions_conflict ON actions (operation_key) WHERE conflict = 1;
CREATE INDEX repeats_action ON repeats (action);
CREATE INDEX outbox_set_aside ON outbox (state) WHERE state IN (4, 5);
CREATE INDEX attempts_entry ON attempts (entry);
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE replayed_at IS NULL;
CREATE INDEX dead_letters_job ON dead_letters (job) WHERE job IS NOT NULL;
CREATE INDEX dead_letters_entry ON dead_letters (entry) WHERE entry IS NOT NULL;
CREATE INDEX history_receipt ON history (receipt);
CREATE INDEX plugin_versions_name ON plugin_versions (owner, name, version);
CREATE INDEX plugin_history_digest ON plugin_history (digest) WHERE digest IS NOT NULL;
CREATE INDEX plugin_history_route ON plugin_history (tenant, route) WHERE route IS NOT NULL;
CREATE INDEX shadow_runs_route ON shadow_runs (tenant, route, shadow);
CREATE INDEX plugin_trials_route ON plugin_trials (tenant, route, candidate, active);
CREATE INDEX jobs_claimable ON jobs (tenant, due_at, id) WHERE state IN (1, 2);
CREATE UNIQUE INDEX quarantines_open ON quarantines (tenant, route, digest) WHERE lifted_at IS NULL;
CREATE INDEX outbox_claimable ON outbox (tenant, destination, due_at, id) WHERE state IN (1, 2);
CREATE INDEX jobs_lane ON jobs (lane, state) WHERE state < 3;
CREATE INDEX jobs_set_aside ON jobs (state, tenant, route, ended_at) WHERE state > 3;
CREATE INDEX deliveries_open ON deliveries (origin, received_at) WHERE conflict <> 0 AND decided = 0;
CREATE INDEX work_reviews_job ON work_reviews (job) WHERE job IS NOT NULL;
CREATE INDEX work_reviews_delivery ON work_reviews (delivery) WHERE delivery IS NOT NULL;
CREATE UNIQUE INDEX actions_operation ON actions (operation_key, tenant, namespace, kind) WHERE conflict = 0;
CREATE UNIQUE INDEX outbox_action ON outbox (action, destination);
CREATE INDEX actions_conflicting ON actions (id) WHERE conflict = 1;
CREATE UNIQUE INDEX work_reviews_action ON work_reviews (action) WHERE action IS NOT NULL;
CREATE INDEX state_edits_key ON state_edits (tenant, plugin, key, id);

-- The processes that have had the store open. A host writes its own row last in each transaction: `mark` is the number of that
-- transaction, so after a connection was lost with a COMMIT under way, the row says whether it happened. The others count what other
-- hosts have to hear of: jobs and outbox entries that became ready, and what hosts keep in memory.
CREATE TABLE hosts (
    id BIGINT PRIMARY KEY DEFAULT next_hosts(),
    opened_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    mark BIGINT NOT NULL DEFAULT 0,
    jobs BIGINT NOT NULL DEFAULT 0,
    outbox BIGINT NOT NULL DEFAULT 0,
    tokens BIGINT NOT NULL DEFAULT 0,
    quarantines BIGINT NOT NULL DEFAULT 0,
    registry BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- What SQLite calls otherwise.
CREATE FUNCTION blob(TEXT) RETURNS BYTEA LANGUAGE sql IMMUTABLE AS $$ SELECT convert_to($1, 'UTF8') $$;
CREATE FUNCTION blob(BYTEA) RETURNS BYTEA LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;
CREATE FUNCTION hex(BYTEA) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$ SELECT upper(encode($1, 'hex')) $$;
CREATE FUNCTION instr(TEXT, TEXT) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$ SELECT strpos($1, $2)::BIGINT $$;

-- Bodies are compressed by whichever is there: the default takes half as long again.
DO $$ BEGIN
    ALTER TABLE receipts ALTER COLUMN body SET COMPRESSION lz4;
    ALTER TABLE deliveries ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN OTHERS THEN NULL;
END $$;

INSERT INTO redelivered_in_all (what, count) VALUES (0, 0), (1, 0), (2, 0);
INSERT INTO meta (name, value) VALUES ('layout', convert_to('rows', 'UTF8'));
