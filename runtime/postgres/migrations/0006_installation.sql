-- Which installation of mediabus this is: its streams in NATS bear the id, so that no other
-- installation, with a database of its own, takes them for its own.

CREATE TABLE mediabus_installation (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only)
);

INSERT INTO mediabus_installation DEFAULT VALUES;
