-- Schema 7. Pulled destinations: since when the owner of one has an entry leased. Null: it is pushed, or nobody has it. Such a lease is not the
-- host's, and outlives it.
ALTER TABLE outbox ADD COLUMN pulled_at INTEGER;
