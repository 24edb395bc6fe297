-- The applications that are read: how far their history was read, and whether they answer.
CREATE TABLE apps (
    name            text PRIMARY KEY,
    kind            text NOT NULL,
    version         text,
    -- The history before this moment is the past: it is imported only on request.
    met_at          timestamptz NOT NULL,
    -- The date of the newest row that was read.
    newest_at       timestamptz NOT NULL,
    reachable       boolean NOT NULL DEFAULT true,
    since           timestamptz NOT NULL DEFAULT now(),
    reason          text,
    error_message   text,
    read_at         timestamptz,
    webhook_at      timestamptz,
    library_at      timestamptz,
    -- The import of the past: rows from backfill_since until backfill_until, read up to
    -- backfill_at. Everything since imported_since was imported before.
    imported_since  timestamptz NOT NULL,
    backfill_since  timestamptz,
    backfill_until  timestamptz,
    backfill_at     timestamptz,
    backfill_rows   bigint NOT NULL DEFAULT 0,
    CHECK ((backfill_since IS NULL) = (backfill_until IS NULL)),
    CHECK ((backfill_since IS NULL) = (backfill_at IS NULL))
);

-- The rows of the last minutes, which are read again. An older row is never read again.
CREATE TABLE app_rows (
    app      text NOT NULL,
    event_id uuid NOT NULL,
    date     timestamptz NOT NULL,
    PRIMARY KEY (app, event_id)
);
CREATE INDEX app_rows_by_date ON app_rows (app, date);

-- The health checks that fail, and since when one succeeds again.
CREATE TABLE app_checks (
    app           text NOT NULL,
    name          text NOT NULL,
    message       text NOT NULL,
    level         text NOT NULL,
    wiki_url      text,
    failing_since timestamptz NOT NULL,
    passing_since timestamptz,
    reported_at   timestamptz,
    PRIMARY KEY (app, name)
);

CREATE INDEX media_items_by_imdb_id ON media_items (imdb_id) WHERE imdb_id IS NOT NULL;

-- What each application has of a media item. `key` is its id in a database such as TMDB, because
-- `app_item` changes when the application's own database is rebuilt.
CREATE TABLE media_sources (
    app           text NOT NULL,
    key           text NOT NULL,
    app_item      bigint NOT NULL,
    media_item_id uuid REFERENCES media_items ON DELETE SET NULL,
    -- Whether the item is in the library only because of applications.
    owns          boolean NOT NULL,
    title         text NOT NULL,
    year          integer,
    tmdb_id       integer,
    imdb_id       text,
    tvdb_id       integer,
    monitored     boolean NOT NULL,
    missing_since timestamptz,
    PRIMARY KEY (app, key)
);
CREATE INDEX media_sources_by_tvdb_id ON media_sources (tvdb_id) WHERE tvdb_id IS NOT NULL;
CREATE INDEX media_sources_by_item ON media_sources (media_item_id);
CREATE INDEX media_sources_by_app_item ON media_sources (app, app_item);

-- A download as an application sees it: what it grabbed, what it imported of it, and whether that
-- failed. `client_item` joins it to the download of a client.
CREATE TABLE releases (
    app             text NOT NULL,
    client_item     text NOT NULL,
    correlation_id  text NOT NULL,
    title           text NOT NULL,
    indexer         text,
    client          text,
    quality         text,
    media_item_id   uuid REFERENCES media_items ON DELETE SET NULL,
    grabbed_at      timestamptz,
    grabbed_rows    integer NOT NULL DEFAULT 0,
    failed_at       timestamptz,
    imported_rows   integer NOT NULL DEFAULT 0,
    imported_files  integer NOT NULL DEFAULT 0,
    imported_size   bigint NOT NULL DEFAULT 0,
    first_import_at timestamptz,
    last_import_at  timestamptz,
    -- By the clock of the database: when the last import row was read.
    import_seen_at  timestamptz,
    destination     text,
    last_file       text,
    upgrade         boolean NOT NULL DEFAULT false,
    imported_at     timestamptz,
    PRIMARY KEY (app, client_item)
);
CREATE INDEX releases_by_client_item ON releases (client_item);
CREATE INDEX releases_importing ON releases (app, import_seen_at)
    WHERE imported_rows > 0 AND imported_at IS NULL;

-- The story that an episode, a movie or an album belongs to: that of its last release.
CREATE TABLE app_stories (
    app            text NOT NULL,
    part           bigint NOT NULL,
    correlation_id text NOT NULL,
    PRIMARY KEY (app, part)
);

-- An application grabbed the download: its story, and the application.
ALTER TABLE downloads ADD COLUMN correlation_id text;
ALTER TABLE downloads ADD COLUMN app text;
-- When its failure was reported, by the monitor or by an application: the other does not repeat it.
ALTER TABLE downloads ADD COLUMN failed_at timestamptz;
