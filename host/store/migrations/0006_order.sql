-- Schema 6. Order at destinations: entries of one (tenant, destination, subject) are a lane, where the destination asked for order when they
-- were recorded. Of each lane at most one entry is ready or leased, the oldest; the others are blocked until it ends.
ALTER TABLE outbox ADD COLUMN lane INTEGER; -- null: it waits for no other; state 0: blocked
CREATE INDEX outbox_lane ON outbox (lane, state) WHERE lane IS NOT NULL AND state < 3;
