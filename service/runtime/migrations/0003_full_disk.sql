-- A full disk, or memory that does not suffice, is the server's failure and not the event's: the
-- operation fails whole then, and is told so. Were it to go on, its event would leave from memory,
-- where a crash loses it, and out of the order of the outbox. Else as before.
CREATE OR REPLACE FUNCTION record_events(
    ids uuid[], times timestamptz[], subjects text[], payloads bytea[]
)
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
