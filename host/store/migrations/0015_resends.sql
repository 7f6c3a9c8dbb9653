-- Schema 15. What was delivered can be sent again on purpose: who asked for it and why, and which attempts are of it.
CREATE TABLE resends (
    id    INTEGER PRIMARY KEY,
    at    INTEGER NOT NULL,
    actor TEXT NOT NULL,
    why   TEXT NOT NULL
) STRICT;
ALTER TABLE outbox ADD COLUMN resend INTEGER;
ALTER TABLE attempts ADD COLUMN resend INTEGER;
