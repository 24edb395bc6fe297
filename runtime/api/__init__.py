"""The NATS micro API: decode requests, encode replies and errors."""

from mediabus.runtime import backport as backport  # before anything calls asyncio.wait_for
