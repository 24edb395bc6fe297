-- Who may do what, where there are roles: applied by every `mediabus migrate`. `mediabus secure`
-- writes the statements that make them.
DO $$
BEGIN
    IF to_regrole('mediabus_operations') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO mediabus_operations', current_schema());
        GRANT SELECT ON mediabus_migrations, mediabus_installation, events TO mediabus_operations;
        GRANT SELECT, INSERT, UPDATE, DELETE ON media_items, leases, idempotent_requests
            TO mediabus_operations;
        GRANT SELECT, INSERT, UPDATE ON downloads, download_clients TO mediabus_operations;
        GRANT SELECT, INSERT, UPDATE, DELETE ON apps, app_replaced, app_rows, app_checks,
            app_stories, download_aliases, media_sources, releases TO mediabus_operations;
        GRANT SELECT, INSERT, DELETE ON outbox TO mediabus_operations;
        GRANT SELECT ON SEQUENCE outbox_position_seq TO mediabus_operations;
        GRANT SELECT, UPDATE ON outbox_cursor TO mediabus_operations;
    END IF;
    IF to_regrole('mediabus_persister') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO mediabus_persister', current_schema());
        GRANT SELECT ON mediabus_migrations, mediabus_installation TO mediabus_persister;
        GRANT SELECT, INSERT ON events TO mediabus_persister;
        GRANT EXECUTE ON FUNCTION ensure_events_partition(timestamptz) TO mediabus_persister;
        GRANT EXECUTE ON FUNCTION drop_events_partition(text) TO mediabus_persister;
    END IF;
    IF to_regrole('mediabus_reader') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO mediabus_reader', current_schema());
        GRANT SELECT ON events, media_items, downloads, download_clients, apps
            TO mediabus_reader;
        -- Every login could fill the disk with temporary tables, and before PostgreSQL 15 put a
        -- table in the way of a partition. It is the database's owner who may take that away.
        BEGIN
            EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
            EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'mediabus could not take TEMPORARY and CREATE from PUBLIC: %', SQLERRM;
        END;
    END IF;
END
$$;
