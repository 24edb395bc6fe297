-- The persister need not own `events`: whoever may call these functions makes and drops its
-- partitions, in the owner's name, and nothing else. `service/runtime/grants.sql` says who may.
ALTER FUNCTION ensure_events_partition(timestamptz) SECURITY DEFINER;
REVOKE EXECUTE ON FUNCTION ensure_events_partition(timestamptz) FROM PUBLIC;

CREATE FUNCTION drop_events_partition(partition text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF partition !~ '^events_\d{4}_\d{2}$' THEN
        RAISE EXCEPTION '% is no partition of events', partition;
    END IF;
    -- PostgreSQL itself stumbles where two sessions make and drop partitions of one table at once.
    PERFORM pg_advisory_xact_lock(hashtext('mediabus.events_partition'));
    EXECUTE format('DROP TABLE IF EXISTS %I', partition);
END
$$;
REVOKE EXECUTE ON FUNCTION drop_events_partition(text) FROM PUBLIC;

-- What runs in the owner's name looks for its tables in this schema, and nowhere that its caller
-- could put others.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION ensure_events_partition(timestamptz) SET search_path = %I, pg_temp',
                   current_schema());
    EXECUTE format('ALTER FUNCTION drop_events_partition(text) SET search_path = %I, pg_temp',
                   current_schema());
END
$$;
