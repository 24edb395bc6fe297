-- Whom NATS proved to have asked for what "asked" says, as "user:42"; null where they only said so.
ALTER TABLE downloads ADD COLUMN asked_proven text;
