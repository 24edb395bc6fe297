"""Process plumbing: signals, logs and health endpoints."""

from mediabus.runtime import backport as backport  # before anything calls asyncio.wait_for
