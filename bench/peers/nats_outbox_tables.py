"""Makes the tables of nats-outbox anew."""

import os

import uvloop
from nats_outbox.core.models import create_tables, drop_tables
from sqlalchemy.ext.asyncio import create_async_engine


async def main() -> None:
    """Makes them."""
    engine = create_async_engine(os.environ["OUTBOX_DATABASE_URL"])
    await drop_tables(engine)
    await create_tables(engine)
    await engine.dispose()


uvloop.run(main())
