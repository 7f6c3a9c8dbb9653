-- Schema 5. The plugin registry: components, their versions, which of them each route runs, whose signatures count, routes set by
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
    differences INTEGER NOT NULL
) STRICT;
CREATE INDEX plugin_trials_route ON plugin_trials (tenant, route, candidate, active);
