-- Files that an application deleted for better ones, until it imports those.
CREATE TABLE app_replaced (
    app        text NOT NULL,
    -- The episode, movie or track, by its number in the application.
    part       bigint NOT NULL,
    path       text NOT NULL,
    deleted_at timestamptz NOT NULL
);
CREATE INDEX app_replaced_by_part ON app_replaced (app, part);

-- Other ids of a download in its client, by which applications know it.
CREATE TABLE download_aliases (
    alias       text NOT NULL,
    client      text NOT NULL,
    download_id uuid NOT NULL REFERENCES downloads ON DELETE CASCADE,
    PRIMARY KEY (alias, client)
);
CREATE INDEX download_aliases_by_download ON download_aliases (download_id);

-- The date of the newest row about a grabbed release: each has a webhook of its own.
ALTER TABLE apps ADD COLUMN grabbed_at timestamptz;

-- Whether the application deleted the files too, if its webhook says so.
ALTER TABLE media_sources ADD COLUMN files_deleted boolean;
