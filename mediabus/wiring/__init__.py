"""The processes of mediabus: their parts, connected to NATS and PostgreSQL."""
