"""The SQL of a library."""

from typing import Final

LOCK: Final = "SELECT library_at FROM apps WHERE name = $1 FOR UPDATE"
SOURCES: Final = "SELECT * FROM media_sources WHERE app = $1 AND key = ANY ($2)"
# The tables may be empty when a statement is planned, and full a second later.
PLAN_AGAIN: Final = "SET LOCAL plan_cache_mode = force_custom_plan"
MATCH: Final = """
SELECT DISTINCT ON (wanted.key) wanted.key, found.id
FROM unnest($1::text[], $2::integer[], $3::integer[], $4::text[])
    AS wanted (key, tmdb_id, tvdb_id, imdb_id)
CROSS JOIN LATERAL (
    SELECT m.id, 1 AS rank FROM media_items AS m
    WHERE m.type = $5 AND m.tmdb_id = wanted.tmdb_id
    UNION ALL
    SELECT m.id, 2 FROM media_sources AS s JOIN media_items AS m ON m.id = s.media_item_id
    WHERE m.type = $5 AND s.tvdb_id = wanted.tvdb_id
    UNION ALL
    SELECT m.id, 3 FROM media_items AS m
    WHERE m.type = $5 AND m.imdb_id = wanted.imdb_id
) AS found
ORDER BY wanted.key, found.rank, found.id
"""
ITEMS: Final = """
SELECT m.*, (SELECT bool_or(s.monitored) FROM media_sources AS s WHERE s.media_item_id = m.id)
    AS wanted
FROM media_items AS m WHERE m.id = ANY ($1) ORDER BY m.id FOR UPDATE
"""
ADD: Final = """
INSERT INTO media_items (id, type, title, year, tmdb_id, imdb_id, monitored)
SELECT (e ->> 'id')::uuid, $2, e ->> 'title', (e ->> 'year')::integer, (e ->> 'tmdb_id')::integer,
       e ->> 'imdb_id', (e ->> 'monitored')::boolean
FROM jsonb_array_elements($1) AS e
"""
SAVE: Final = """
INSERT INTO media_sources (app, key, app_item, media_item_id, owns, title, year, tmdb_id, imdb_id,
                           tvdb_id, monitored)
SELECT app, key, app_item, media_item_id, owns, title, year, tmdb_id, imdb_id, tvdb_id, monitored
FROM jsonb_populate_recordset(NULL::media_sources, $1)
ON CONFLICT (app, key) DO UPDATE SET
    app_item = excluded.app_item, media_item_id = excluded.media_item_id, owns = excluded.owns,
    title = excluded.title, year = excluded.year, tmdb_id = excluded.tmdb_id,
    imdb_id = excluded.imdb_id, tvdb_id = excluded.tvdb_id, monitored = excluded.monitored,
    missing_since = NULL, files_deleted = NULL
"""
UPDATE: Final = """
UPDATE media_items SET title = $2, year = $3, tmdb_id = $4, imdb_id = $5, monitored = $6,
                       updated_at = now()
WHERE id = $1
"""
MISSING: Final = """
UPDATE media_sources SET missing_since = now()
WHERE app = $1 AND missing_since IS NULL
  AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS listed (key)
                  WHERE listed.key = media_sources.key)
RETURNING key
"""
GONE: Final = """
DELETE FROM media_sources WHERE app = $1 AND key = ANY (
    SELECT key FROM media_sources
    WHERE app = $1 AND missing_since < now() - make_interval(secs => $2)
    ORDER BY key LIMIT 500)
RETURNING media_item_id, owns, tvdb_id, files_deleted
"""
# Who adds a library owns its items; the next application inherits them.
INHERIT: Final = """
UPDATE media_sources AS s SET owns = true
WHERE s.media_item_id = ANY ($1) RETURNING s.media_item_id
"""
DELETE: Final = "DELETE FROM media_items WHERE id = ANY ($1) RETURNING *"
DONE: Final = "UPDATE apps SET library_at = now() WHERE name = $1"
NOTE_REMOVAL: Final = """
UPDATE media_sources SET files_deleted = $3 WHERE app = $1 AND app_item = $2
"""
