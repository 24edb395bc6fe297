"""mediabus' own pull consumer: acknowledge each message."""

import uvloop

from bench.peers.consumer import BATCH, DURABLE, NATS_URL, STREAM
from mediabus.consumers.daemon import durable
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.nats.pull import pulling
from mediabus.runtime.settings import NatsSettings


async def main() -> None:
    """Acknowledge messages until cancelled."""
    async with (
        connect(NatsSettings(url=NATS_URL), name="bench") as bus,
        pulling(bus, stream=STREAM, consumer=durable(DURABLE), batch=BATCH, is_made=True) as pull,
    ):
        while True:
            await bus.nc.acknowledge(await pull.messages(BATCH))


uvloop.run(main())
