-- Schema 16. A proposal that conflicts with the ledger waits for a person. It is kept once, however often it is proposed: further
-- proposals of it are `repeats` of its row.
CREATE INDEX actions_conflicting ON actions (id) WHERE conflict = 1;
-- Where a person recorded it under another key, that is an action of the same run, at -1 minus the proposal's position.
-- Of a decision about a conflict, instead of `job` and `delivery`: the conflicting action, and the one that stands for it: the recorded
-- one (became 6, kept), or a new one under a key of its own (became 7, recorded).
ALTER TABLE work_reviews ADD COLUMN action INTEGER;
ALTER TABLE work_reviews ADD COLUMN effect INTEGER;
CREATE UNIQUE INDEX work_reviews_action ON work_reviews (action) WHERE action IS NOT NULL;
