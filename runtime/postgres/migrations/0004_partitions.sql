-- Who makes or drops a partition of `events` locks this row first. An advisory lock would not do:
-- every login may take those, and one that holds it would stop storing.
CREATE TABLE events_partitions_guard (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO events_partitions_guard DEFAULT VALUES;

-- Makes the partition of the month of a moment, if there is none. CREATE and then ATTACH waits
-- neither for readers nor for a backup, and nobody waits for it: CREATE TABLE … PARTITION OF would
-- lock the whole of `events` against everybody.
CREATE OR REPLACE FUNCTION ensure_events_partition(moment timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '2s' AS $$
DECLARE
    month     timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
    partition text := 'events_' || to_char(month, 'YYYY_MM');
    is_there  boolean;
BEGIN
    IF moment < now() - interval '50 years' OR moment > now() + interval '3 years' THEN
        RAISE EXCEPTION '% is no month of events: it is more than 50 years ago or 3 years ahead', moment
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
                   WHERE inhparent = 'events'::regclass AND c.relname = partition) INTO is_there;
    IF is_there THEN
        RETURN;
    END IF;
    PERFORM FROM events_partitions_guard FOR UPDATE;
    -- Not by to_regclass, which may remember that there was none.
    SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
                   WHERE inhparent = 'events'::regclass AND c.relname = partition) INTO is_there;
    IF is_there THEN  -- another process was faster
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', partition);
    EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   partition, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
END
$$;

-- Drops a month. Never one that is younger than the shortest retention, by this server's own clock:
-- the clock of the process that asks may be wrong.
CREATE OR REPLACE FUNCTION drop_events_partition(partition text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
BEGIN
    IF partition !~ '^events_\d{4,}_\d{2}$' THEN
        RAISE EXCEPTION '% is no partition of events', partition;
    END IF;
    IF to_date(substr(partition, 8), 'YYYY_MM')
       >= date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month' THEN
        RAISE EXCEPTION '% is too young to be dropped: by the clock of PostgreSQL it is %',
            partition, to_char(now(), 'YYYY-MM-DD');
    END IF;
    PERFORM FROM events_partitions_guard FOR UPDATE;
    EXECUTE format('DROP TABLE IF EXISTS %I', partition);
END
$$;

-- As in the first migration: what runs in the owner's name finds its tables in this schema only.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION ensure_events_partition(timestamptz) SET search_path = %I, pg_temp',
                   current_schema());
    EXECUTE format('ALTER FUNCTION drop_events_partition(text) SET search_path = %I, pg_temp',
                   current_schema());
END
$$;

-- As before, but a failed ASSERT, of a trigger for instance, is caught as well: OTHERS leaves it out.
CREATE OR REPLACE FUNCTION record_events(ids uuid[], times timestamptz[], subjects text[], payloads bytea[])
RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
BEGIN
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
    WHEN assert_failure OR OTHERS THEN
        RAISE WARNING 'mediabus could not record an event: % (%)', SQLERRM, SQLSTATE;
        RETURN false;
END
$$;
