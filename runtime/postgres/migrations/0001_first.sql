-- What is in the library.
CREATE TABLE media_items (
    id             uuid PRIMARY KEY,
    type           text NOT NULL CHECK (type IN ('movie', 'tv_show')),
    title          text NOT NULL CHECK (title ~ '\S'),
    original_title text CHECK (original_title ~ '\S'),
    year           integer CHECK (year BETWEEN 1801 AND 2199),
    tmdb_id        integer CHECK (tmdb_id > 0),
    imdb_id        text,
    metadata       jsonb NOT NULL DEFAULT '{}',
    monitored      boolean NOT NULL DEFAULT true,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT media_items_movie_has_year CHECK (type <> 'movie' OR year IS NOT NULL),
    -- TMDB numbers its movies and its TV shows apart.
    CONSTRAINT media_items_tmdb_id_key UNIQUE (type, tmdb_id)
);

-- A title without case, punctuation and spacing, to compare it with a release's name.
CREATE FUNCTION normal_title(title text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN btrim(regexp_replace(replace(lower(title), '&', ' and '), '[^[:alnum:]]+', ' ', 'g'));
CREATE INDEX media_items_by_normal_title ON media_items (normal_title(title));

-- The life of each download; a row stays when its download has ended.
CREATE TABLE downloads (
    id              uuid PRIMARY KEY,
    title           text NOT NULL CHECK (title ~ '\S'),
    state           text NOT NULL CHECK (state IN (
                        'initiating', 'active', 'paused', 'stalled',
                        'completed', 'failed', 'removed', 'cancelled')),
    client          text NOT NULL,
    client_item     text,
    protocol        text NOT NULL CHECK (protocol IN ('torrent', 'usenet')),
    category        text,
    indexer         text,
    media_item_id   uuid REFERENCES media_items ON DELETE SET NULL,
    size            bigint,
    save_path       text,
    reason          text,
    error_message   text,
    -- What somebody asked for and the client has not yet shown: whoever sees it come true first,
    -- the operation or the monitor, says so in the name of the one who asked.
    asked           text CHECK (asked IN ('initiate', 'pause', 'resume', 'cancel', 'cancel_with_files')),
    asked_by_type   text,
    asked_by_id     text,
    asked_correlation_id text,
    asked_at        timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    completed_at    timestamptz,
    CONSTRAINT downloads_asked_by_whom CHECK (
        (asked IS NULL) = (asked_by_type IS NULL) AND
        (asked IS NULL) = (asked_by_id IS NULL) AND
        (asked IS NULL) = (asked_at IS NULL)
    )
);
CREATE UNIQUE INDEX downloads_one_active_per_media_item ON downloads (media_item_id)
    WHERE state IN ('initiating', 'active', 'paused', 'stalled');
CREATE UNIQUE INDEX downloads_one_present_per_item ON downloads (client, client_item)
    WHERE state IN ('initiating', 'active', 'paused', 'stalled', 'completed');
CREATE INDEX downloads_by_item ON downloads (client, client_item, id DESC);
CREATE INDEX downloads_by_media_item ON downloads (media_item_id) WHERE media_item_id IS NOT NULL;

-- Which download clients are in reach, so that an outage is said once.
CREATE TABLE download_clients (
    name      text PRIMARY KEY,
    kind      text NOT NULL,
    reachable boolean NOT NULL,
    since     timestamptz NOT NULL,
    met_at    timestamptz NOT NULL DEFAULT now()
);

-- Events on their way to NATS, in the order in which they happened to each resource.
CREATE TABLE outbox (
    position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    subject     text NOT NULL,
    payload     bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    -- What the outbox once had it keeps: there is room for events where the disk is full, and no
    -- operation meets the lock that giving room back takes.
    vacuum_truncate = off
);

-- Up to where the relay has published the outbox.
CREATE TABLE outbox_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL
);
INSERT INTO outbox_cursor (position) VALUES (0);

-- Records events inside the caller's transaction. Answers false, and undoes only itself, where that
-- fails or would have to wait for a lock: the operation goes on as if nothing had been asked.
-- A full disk, or memory that does not suffice, is the server's failure and not the event's: the
-- operation fails whole then, and is told so. Were it to go on, its event would leave from memory,
-- where a crash loses it, and out of the order of the outbox.
CREATE FUNCTION record_events(ids uuid[], times timestamptz[], subjects text[], payloads bytea[])
RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
BEGIN
    -- The transaction has its id before it draws positions: the relay relies on it to know
    -- when no lower position can appear any more.
    PERFORM pg_current_xact_id();
    INSERT INTO outbox (id, occurred_at, subject, payload)
    SELECT id, occurred_at, subject, payload
    FROM unnest(ids, times, subjects, payloads) WITH ORDINALITY
         AS event (id, occurred_at, subject, payload, nth)
    ORDER BY nth;
    RETURN true;
EXCEPTION
    WHEN insufficient_resources THEN
        RAISE;
    WHEN OTHERS THEN
        RAISE WARNING 'mediabus could not record an event: % (%)', SQLERRM, SQLSTATE;
        RETURN false;
END
$$;

-- Who leads where only one may work; a holder counts its beats up, the others watch them.
CREATE TABLE leases (
    name   text PRIMARY KEY,
    holder uuid NOT NULL,
    beat   bigint NOT NULL
);

-- Every event that happened, once. Partitioned by month, so that old months leave in one stroke.
CREATE TABLE events (
    id             uuid NOT NULL,
    occurred_at    timestamptz NOT NULL,
    stream_seq     bigint,
    category       text NOT NULL,
    type           text NOT NULL,
    severity       text NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
    source         text NOT NULL,
    actor_type     text CHECK (actor_type IN ('user', 'system', 'job')),
    actor_id       text,
    resource_type  text,
    resource_id    text,
    correlation_id text,
    causation_id   text,
    data           jsonb NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, occurred_at),
    CHECK ((actor_type IS NULL) = (actor_id IS NULL)),
    CHECK ((resource_type IS NULL) = (resource_id IS NULL))
) PARTITION BY RANGE (occurred_at);
CREATE INDEX events_by_time ON events (occurred_at DESC, id DESC);
CREATE INDEX events_by_type ON events (type, occurred_at DESC, id DESC);
CREATE INDEX events_by_resource ON events (resource_id, occurred_at DESC, id DESC)
    WHERE resource_id IS NOT NULL;
CREATE INDEX events_by_actor ON events (actor_id, occurred_at DESC, id DESC)
    WHERE actor_id IS NOT NULL;

-- Makes the partition of the month of a moment, if there is none. The lock keeps two persisters
-- from making the same one.
CREATE FUNCTION ensure_events_partition(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month       timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
    partition   text := 'events_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('mediabus.events_partition'));
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                   partition, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
END
$$;
