-- Schema 18. Why a token was made and ended, empty where nobody said; and what a trial found of state: after how many of its runs the
-- active version could not go on with what the candidate had written.
ALTER TABLE tokens ADD COLUMN why TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN revoked_why TEXT NOT NULL DEFAULT '';
ALTER TABLE plugin_trials ADD COLUMN unreadable INTEGER NOT NULL DEFAULT 0;
