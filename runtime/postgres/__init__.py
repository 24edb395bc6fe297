"""PostgreSQL: the pool, migrations, leases."""

from mediabus.runtime import backport as backport  # before anything calls asyncio.wait_for
