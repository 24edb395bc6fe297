"""Requests of keys that NATS permissions cannot check: the service checks and performs them."""
