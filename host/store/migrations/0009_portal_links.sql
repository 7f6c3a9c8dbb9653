-- Schema 9. A portal link is a token of the role `portal`: what it lists, and how the console looks to whoever comes by it.
ALTER TABLE tokens ADD COLUMN capabilities TEXT;   -- words with commas between; NULL for every other role
ALTER TABLE tokens ADD COLUMN accent TEXT;         -- #rrggbb
ALTER TABLE tokens ADD COLUMN scheme TEXT;         -- light or dark
