"""The connection that other programs use: publish, subscribe, and call the operations."""

import contextlib
import datetime
import logging
from collections.abc import AsyncIterator
from typing import Final, Unpack

import msgspec

from mediabus.api.moments import moment_from
from mediabus.api.operations import Applications, DeadLetters, Downloads, History, Media
from mediabus.api.stream import read_stream
from mediabus.runtime import trace_context
from mediabus.runtime.nats import bus as nats_bus
from mediabus.runtime.settings_file import load, resolved
from mediabus.schemas import codec, trace
from mediabus.schemas.envelope import Envelope, Links
from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor
from mediabus.schemas.subjects import EVENTS_SUBJECTS

log: Final = logging.getLogger("mediabus.api")

CONNECT_WITHIN: Final = 5.0


class Bus:
    """An open connection to mediabus. ``connect`` makes it.

    ``media``, ``downloads``, ``history``, ``dead_letters`` and ``apps`` call the operations:

    >>> async with mediabus.connect(actor=mediabus.Actor("user", "42")) as bus:
    ...     dune = await bus.media.create(title="Dune", year=2021)
    ...     events = await bus.history.list(resource_id=str(dune.id))
    """

    def __init__(self, bus: nats_bus.Bus, actor: Actor | None) -> None:
        self._bus = bus
        self._actor = actor
        self.media = Media(bus, actor)
        self.downloads = Downloads(bus, actor)
        self.history = History(bus, actor)
        self.dead_letters = DeadLetters(bus, actor)
        self.apps = Applications(bus, actor)

    async def publish(
        self,
        event: Event,
        *,
        actor: Actor | None = None,
        **links: Unpack[Links],
    ) -> Envelope:
        """Publish an event that happens now, and return it once NATS has stored it.

        ``actor`` is who did it, by default the one given to ``connect``. ``resource`` is what the
        event is about. Events of one cause share a ``correlation_id``; ``causation_id`` is the id
        of the event that led to this one.

        Raises:
            InvalidEvent: The event breaks its schema, or is larger than 1,000,000 bytes.
            PublishFailed: NATS did not confirm it. Publish the same event again: it is stored once.

        >>> async with mediabus.connect() as bus:
        ...     event = mediabus.events.JobExecuted(job_name="scan", duration_ms=812)
        ...     envelope = await bus.publish(event, actor=mediabus.Actor("job", "scan"))
        """
        who = actor or self._actor
        if who is None:
            raise TypeError("publish() needs an actor: pass one here or to connect()")
        with trace.carrying(trace_context.caller()):
            return await self._bus.publish(event, actor=who, **links)

    async def events(
        self,
        subjects: str = EVENTS_SUBJECTS,
        *,
        since: datetime.datetime | str | None = None,
        follow: bool = True,
    ) -> AsyncIterator[Envelope]:
        """Yield the events that match a subject filter, in order, each once.

        ``since`` starts at a moment of the past, such as ``"1h"``; without it, at now. ``follow``
        waits for new events; without it, the iterator ends at the end of the stream. It survives
        reconnects, and remembers nothing when it ends: use ``consume`` for that. A message that is
        not a valid event is logged and skipped.

        Raises:
            ValueError: ``since`` is not a time.

        >>> async with mediabus.connect() as bus:
        ...     async for envelope in bus.events("events.>", since="1h", follow=False):
        ...         print(envelope.time, envelope.type, envelope.actor)
        """
        start = moment_from(since) if isinstance(since, str) else since
        async for message in read_stream(self._bus, subjects, start, follow=follow):
            try:
                yield codec.decode(message.data, message.headers)
            except codec.InvalidEvent as error:
                log.warning(
                    "invalid event skipped",
                    extra={"subject": message.subject, "error": str(error)},
                )


@contextlib.asynccontextmanager
async def connect(
    url: str | None = None,
    *,
    actor: Actor | None = None,
    name: str = "mediabus client",
    config: str | None = None,
    wait: float = CONNECT_WITHIN,
) -> AsyncIterator[Bus]:
    """Connect to NATS, as an asynchronous context manager.

    Without ``url`` the connection goes where the settings say: the file ``config`` or
    ``MEDIABUS_CONFIG``, the variables ``MEDIABUS_NATS_…``, or a ``mediabus up`` on this machine.
    ``actor`` is in whose name operations and events happen. ``name`` is shown by the NATS server.
    ``wait`` is how many seconds to wait for a server.

    Raises:
        CannotConnect: No server answered, or it refused the credentials.
        SettingsError: The settings cannot be used; the message names the key.

    >>> async with mediabus.connect(actor=mediabus.Actor("user", "42")) as bus:
    ...     page = await bus.media.list(search="dune")
    """
    settings = resolved(load(config)).nats
    if url is not None:
        settings = msgspec.structs.replace(settings, url=url)
    async with nats_bus.connect(settings, name=name, wait=wait) as bus:
        yield Bus(bus, actor)
