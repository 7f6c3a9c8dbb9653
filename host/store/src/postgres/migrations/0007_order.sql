-- Schema 7 of PostgreSQL: what SQLite's schema 6 says of order. The number stands in the index, which here has no rows' numbers by itself.
ALTER TABLE outbox ADD COLUMN lane BIGINT;
CREATE INDEX outbox_lane ON outbox (lane, state, id) WHERE lane IS NOT NULL AND state < 3;
