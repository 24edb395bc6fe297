"""A pull consumer that prefetches messages and returns them in batches.

nats-py's own ``fetch`` waits for a full batch or its timeout and is several times slower.
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

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.refusals import ConsumerRefused, is_about_limits, is_final, with_advice

log: Final = logging.getLogger("mediabus.pull")

EXPIRES: Final = 30.0
"""Seconds until the server ends a pull request."""

ACK_WAIT: Final = 10.0
"""Seconds until the server redelivers a message that was not acknowledged, for instance because its
consumer was killed."""

HEARTBEAT: Final = 2.0
"""Seconds between the server's heartbeats while a pull request waits. If two are missing, the
request is lost (the server restarted, the consumer's leader moved) and is sent again."""

DELIVER_POLICY_DIFFERS: Final = "deliver policy can not be updated"
"""The server's error if an existing consumer was created with another ``from_start``. The consumer
resumes where it left off."""


class Place(NamedTuple):
    """The position of a message in its stream, and how often it was delivered."""

    stream_seq: int
    deliveries: int


def place_of(message: Msg) -> Place:
    """Parse the position of a message from its acknowledgement subject.

    The subject is ``$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>…``, or has the domain and
    the account before the stream (ADR-15). nats-py's ``metadata`` takes ten times as long.
    """
    tokens = message.reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    return Place(int(tokens[first + 1]), int(tokens[first]))


FULL: Final = {"Batch Completed", "Message Size Exceeds MaxBytes"}
"""Status descriptions of a pull request that reached its ``batch`` or ``max_bytes``."""


class Pull:
    """The messages of one durable consumer.

    One pull request is open at a time, so this holds at most ``2 * batch`` messages and about four
    times the maximum size of a message in bytes. Messages that were handed out, and messages held
    here, are kept in progress until they are acknowledged: otherwise the server would redeliver
    them to another process.
    """

    def __init__(
        self, bus: Bus, stream: str, consumer: ConsumerConfig, batch: int, *, is_made: bool = False
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self.inbox = bus.nc.new_inbox()
        self._batch = batch
        self._consumer_is_there = self._was_there = is_made
        self.losses = 0
        """How often the server ended the consumer."""
        self._outstanding = 0
        self._held: deque[Msg] = deque()
        self._unacknowledged: list[Msg] = []
        self._arrived = asyncio.Event()
        self._last_received = 0.0

    async def messages(self, most: int) -> list[Msg]:
        """Wait for at least one message and return up to ``most`` of them."""
        while not self._held:
            self._arrived.clear()
            if self._outstanding <= 0 or self._is_lost():
                await self._request()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), timeout=HEARTBEAT)
        taken = [self._held.popleft() for _ in range(min(most, len(self._held)))]
        if self._outstanding <= 0 and len(self._held) < self._batch:
            await self._request()
        if self._consumer.ack_policy != AckPolicy.NONE:
            self._unacknowledged = [
                message for message in (*self._unacknowledged, *taken) if not message.is_acked
            ]
        return taken

    async def keep_in_progress(self) -> None:
        """Report all unacknowledged messages as in progress, until cancelled."""
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            for message in (*self._unacknowledged, *self._held):
                if self._bus.is_connected and not message.is_acked:
                    with contextlib.suppress(NatsError):
                        await message.in_progress()

    async def _request(self) -> None:
        if not self._bus.is_connected:  # requests would pile up and all be served on reconnect
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
        self._last_received = time.monotonic()
        subject = f"{self._bus.api}.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer.durable_name}"
        await self._bus.nc.publish(subject, msgspec.json.encode(request), reply=self.inbox)

    async def _ensure_consumer(self) -> None:
        """Create or update the consumer. Retries errors that may be temporary.

        Raises:
            ConsumerRefused: if the consumer never existed and JetStream will always refuse it.
        """
        config = self._consumer
        logged = ""
        while not self._consumer_is_there:
            try:
                await self._bus.js.add_consumer(self._stream, config)
            except (NatsError, APIError, TimeoutError) as error:
                reason = with_advice(error)
                if DELIVER_POLICY_DIFFERS in reason:
                    is_new = config.deliver_policy == DeliverPolicy.NEW
                    existing = DeliverPolicy.ALL if is_new else DeliverPolicy.NEW
                    config = config.evolve(deliver_policy=existing)
                elif is_final(error) and not (self._was_there or is_about_limits(error)):
                    raise ConsumerRefused(self._refusal(reason)) from error
                if reason != logged:
                    extra = {"consumer": config.durable_name, "reason": reason}
                    log.warning("consumer not created, will retry", extra=extra)
                    logged = reason
                await asyncio.sleep(0.5)
            else:
                self._consumer_is_there = self._was_there = True

    def _refusal(self, reason: str) -> str:
        return (
            f"JetStream refuses the consumer {self._consumer.durable_name!r} of stream "
            f"{self._stream}: {reason}. If a consumer of that name exists with another "
            "configuration, choose another name or remove it"
        )

    def _is_lost(self) -> bool:
        silence = time.monotonic() - self._last_received
        return silence > 2 * HEARTBEAT

    def receive(self, message: Msg) -> None:
        """Take a message or a status that the server sent to the inbox."""
        self._last_received = time.monotonic()
        if message.reply.startswith("$JS.ACK."):  # a message may carry a Status header of its own
            self._outstanding -= 1
            self._held.append(message)
        else:
            self._take_status(message.headers or {})
        self._arrived.set()

    def _take_status(self, headers: dict[str, str]) -> None:
        status, description = headers.get("Status"), headers.get("Description", "")
        if status in {"404", "408"} or description in FULL:  # the request ended normally
            self._outstanding = 0
        elif status not in {"100", None}:  # 409, 503: the consumer or its stream changed or is gone
            log.warning("pull request ended", extra={"status": status, "reason": description})
            self._outstanding = 0
            self._consumer_is_there = False
            self.losses += 1


@contextlib.asynccontextmanager
async def pulling(
    bus: Bus, *, stream: str, consumer: ConsumerConfig, batch: int, is_made: bool = False
) -> AsyncIterator[Pull]:
    """Pull from a durable consumer, creating it unless ``is_made``."""
    pull = Pull(bus, stream, consumer, batch, is_made=is_made)
    async with bus.nc.receiving(pull.inbox, pull.receive):
        working = asyncio.create_task(pull.keep_in_progress(), name="in progress")
        try:
            yield pull
        finally:
            working.cancel()
