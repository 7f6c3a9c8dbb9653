-- Schema 9. Claims of the outbox go by turns of destinations, and pass over those that take nothing: what is due is found by
-- tenant and destination.
ALTER TABLE outbox ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
UPDATE outbox SET tenant = (SELECT actions.tenant FROM actions WHERE actions.id = outbox.action);
DROP INDEX outbox_claimable;
CREATE INDEX outbox_claimable ON outbox (tenant, destination, due_at, id) WHERE state IN (1, 2);
