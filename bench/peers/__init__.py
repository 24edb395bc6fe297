"""Other programs that store messages in PostgreSQL, each used as its documentation shows.

They run in a separate environment, ``.venv-peers``, with the versions of ``locks/peers.txt``. Each
reads ``NATS_URL``, ``DATABASE_URL``, ``STREAM`` and ``DURABLE``, and acknowledges a message after
its row is committed.
"""
