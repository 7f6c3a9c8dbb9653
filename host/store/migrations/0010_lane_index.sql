-- Schema 10. SQLite builds a table in memory for each list of three that it compares with, and this one was compared with at every
-- change of a job.
DROP INDEX jobs_lane;
CREATE INDEX jobs_lane ON jobs (lane, state) WHERE state < 3;
