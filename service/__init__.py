"""Who speaks: operations, the outbox, the monitor, and what they run on."""
