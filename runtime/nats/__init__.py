"""NATS: the connection, the streams and pull consumers."""

from mediabus.runtime import backport as backport  # before anything calls asyncio.wait_for
