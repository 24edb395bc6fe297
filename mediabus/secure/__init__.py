"""`mediabus secure`: keys, certificates, roles of NATS and PostgreSQL."""
