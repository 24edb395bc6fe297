-- What a CloudEvent may say beyond the first columns. Each column is empty for what the release
-- before writes, so adding them rewrites nothing and its statements still fit.
ALTER TABLE events
    -- The actor follows from the publisher's key, and not from what the publisher wrote.
    ADD COLUMN actor_verified boolean NOT NULL DEFAULT false,
    -- The extension attributes, as a JSON object under their own names.
    ADD COLUMN extensions     jsonb,
    -- The id as it was published, where it is not a UUID; `id` is made of it and of `source`.
    ADD COLUMN published_id   text,
    -- The message itself, where the other columns cannot give its bytes back. Its headers come
    -- first, from `NATS/1.0` to an empty line, where it was in binary mode.
    ADD COLUMN message        bytea;
