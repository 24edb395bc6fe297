"""A pull consumer's messages, fetched ahead and served in batches.

nats-py's own ``fetch`` waits for a whole batch or its timeout and is several times slower.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from service.runtime.bus import Bus

log: Final = logging.getLogger("mediabus.pull")

EXPIRES: Final = 30.0
ACK_WAIT: Final = 10.0
"""Seconds after which a message that nobody settled (its consumer was killed) comes again."""

HEARTBEAT: Final = 2.0
"""Seconds between the server's signs of life while a request waits; two missing mean that the
request is lost (the server restarted, the consumer's leader moved) and is made again."""

BEGAN_ELSEWHERE: Final = "deliver policy can not be updated"
"""What the server says of a consumer that began at the stream's start and now would not, or the
other way round: it goes on where it is."""


class Place(NamedTuple):
    """Where in its stream a message stands, and how often it was delivered."""

    stream_seq: int
    deliveries: int


def place_of(message: Msg) -> Place:
    """What the subject of its acknowledgement says: ``$JS.ACK.<stream>.<consumer>.<deliveries>.
    <stream seq>…``, or with domain and account before the stream (ADR-15). nats-py's ``metadata``
    says it too, and makes so much more of it that it takes ten times as long."""
    tokens = message.reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    return Place(int(tokens[first + 1]), int(tokens[first]))


FULL: Final = {"Batch Completed", "Message Size Exceeds MaxBytes"}
"""What the server says where a request has had its ``max_bytes``."""


class Pull:
    """The messages of one durable consumer. One request is under way at a time, so at most
    twice ``batch`` messages are held here, and about four times what one message may have in
    bytes. What was taken is kept in progress until it is settled,
    and what is held too: else the server would deliver it to somebody else."""

    def __init__(self, bus: Bus, stream: str, consumer: ConsumerConfig, batch: int) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self.inbox = bus.nc.new_inbox()
        self._batch = batch
        self._consumer_is_there = False
        self._outstanding = 0
        self._held: deque[Msg] = deque()
        self._unsettled: list[Msg] = []
        self._arrived = asyncio.Event()
        self._last_sign = 0.0

    async def messages(self, most: int) -> list[Msg]:
        """Waits for one message at least and takes what is there, ``most`` at the most."""
        while not self._held:
            self._arrived.clear()
            if self._outstanding <= 0 or self._is_lost():
                await self._ask()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), timeout=HEARTBEAT)
        taken = [self._held.popleft() for _ in range(min(most, len(self._held)))]
        if self._outstanding <= 0 and len(self._held) < self._batch:
            await self._ask()
        if self._consumer.ack_policy != AckPolicy.NONE:  # or nobody settles them
            self._unsettled = [one for one in (*self._unsettled, *taken) if not one.is_acked]
        return taken

    async def keep_in_progress(self) -> None:
        """Tells the server for ever that these are being worked on."""
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            for message in (*self._unsettled, *self._held):
                if self._bus.is_connected and not message.is_acked:
                    with contextlib.suppress(NatsError):
                        await message.in_progress()

    async def _ask(self) -> None:
        if not self._bus.is_connected:  # all that is asked for meanwhile would come at once then
            return
        if not self._consumer_is_there:
            await self._ensure_consumer()
        request = {
            "batch": self._batch,
            "max_bytes": 2 * self._bus.nc.max_payload,
            "expires": int(EXPIRES * 1e9),
            "idle_heartbeat": int(HEARTBEAT * 1e9),
        }
        self._outstanding = self._batch
        self._last_sign = time.monotonic()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer.durable_name}"
        await self._bus.nc.publish(subject, msgspec.json.encode(request), reply=self.inbox)

    async def _ensure_consumer(self) -> None:
        config = self._consumer
        while not self._consumer_is_there:
            try:
                await self._bus.js.add_consumer(self._stream, config)
            except (NatsError, APIError, TimeoutError) as error:
                log.info(
                    "waiting for JetStream", extra={"reason": str(error) or type(error).__name__}
                )
                if BEGAN_ELSEWHERE in str(error):
                    is_new = config.deliver_policy == DeliverPolicy.NEW
                    begun = DeliverPolicy.ALL if is_new else DeliverPolicy.NEW
                    config = config.evolve(deliver_policy=begun)
                await asyncio.sleep(0.5)
            else:
                self._consumer_is_there = True

    def _is_lost(self) -> bool:
        silence = time.monotonic() - self._last_sign
        return silence > 2 * HEARTBEAT

    def receive(self, message: Msg) -> None:
        """Takes what the server sends to the inbox."""
        self._last_sign = time.monotonic()
        if message.reply.startswith("$JS.ACK."):  # whatever its own headers say
            self._outstanding -= 1
            self._held.append(message)
        else:
            self._take_status(message.headers or {})
        self._arrived.set()

    def _take_status(self, headers: dict[str, str]) -> None:
        status, words = headers.get("Status"), headers.get("Description", "")
        if status in {"404", "408"} or words in FULL:  # nothing came while the request waited
            self._outstanding = 0
        elif status not in {"100", None}:  # 409, 503: the consumer or its stream changed or is gone
            log.warning("pull request ended", extra={"status": status, "reason": words})
            self._outstanding = 0
            self._consumer_is_there = False


@contextlib.asynccontextmanager
async def pulling(
    bus: Bus, *, stream: str, consumer: ConsumerConfig, batch: int
) -> AsyncIterator[Pull]:
    """A subscription to a durable consumer, which is made if it is not there."""
    pull = Pull(bus, stream, consumer, batch)
    async with bus.nc.handing(pull.inbox, pull.receive):
        working = asyncio.create_task(pull.keep_in_progress(), name="in progress")
        try:
            yield pull
        finally:
            working.cancel()
