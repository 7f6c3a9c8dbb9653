-- Schema 13. An operation belongs to whoever claims it: the key of an effect is (tenant, namespace, kind, operation key), so that no
-- plugin can take another's. What is recorded already is its plugin's.
ALTER TABLE actions ADD COLUMN namespace TEXT NOT NULL DEFAULT '';
UPDATE actions SET namespace = (SELECT runs.plugin FROM runs WHERE runs.id = actions.run);
DROP INDEX actions_operation;
CREATE UNIQUE INDEX actions_operation ON actions (operation_key, tenant, namespace, kind) WHERE conflict = 0;
-- One action is sent to one destination once, whoever proposes it and however often.
DELETE FROM outbox WHERE id NOT IN (SELECT min(id) FROM outbox GROUP BY action, destination);
DROP INDEX outbox_action;
CREATE UNIQUE INDEX outbox_action ON outbox (action, destination);
