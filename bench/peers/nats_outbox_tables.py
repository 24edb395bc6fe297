"""Drop and create the tables of nats-outbox."""

import os

import uvloop
from nats_outbox.core.models import create_tables, drop_tables
from sqlalchemy.ext.asyncio import create_async_engine


async def main() -> None:
    """Replace the tables."""
    engine = create_async_engine(os.environ["OUTBOX_DATABASE_URL"])
    await drop_tables(engine)
    await create_tables(engine)
    await engine.dispose()


uvloop.run(main())
