-- Requests with an idempotency key, kept for a day: a request that comes again gets the same reply.
-- Without a reply the request is under way, or its process was killed. `subject` is the id of the
-- download that it makes, chosen before anything is done. `changed` says that it did what it was for.
CREATE TABLE idempotent_requests (
    actor_type text NOT NULL,
    actor_id   text NOT NULL,
    key        text NOT NULL,
    operation  text NOT NULL,
    digest     bytea NOT NULL,
    subject    uuid NOT NULL,
    changed    boolean NOT NULL DEFAULT false,
    reply      bytea,
    failed     boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    claimed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor_type, actor_id, key)
);
CREATE INDEX idempotent_requests_by_age ON idempotent_requests (created_at);
