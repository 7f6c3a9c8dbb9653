-- Schema 4. Tokens of the private listener: whoever holds one is the caller that its row describes. Rows are never removed.
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
    revoked_by TEXT
) STRICT;
