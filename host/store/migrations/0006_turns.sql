-- Schema 6. Claims go by turns of tenants: what is due is found by tenant.
DROP INDEX jobs_claimable;
CREATE INDEX jobs_claimable ON jobs (tenant, due_at, id) WHERE state IN (1, 2);
