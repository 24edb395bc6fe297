"""Other ways from the stream to a row, each written as its documentation shows.

They run in an environment of their own, ``.venv-peers``, with the versions of
``requirements.txt``. Each reads ``NATS_URL``, ``DATABASE_URL``, ``STREAM`` and ``DURABLE``, and
acknowledges each message, once its row is committed.
"""
