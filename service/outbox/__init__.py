"""The transactional outbox: record events with their change, then relay them to NATS in order."""
