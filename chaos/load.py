"""The load: users and publishers that retry, and a ledger of what was acknowledged to them."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import msgspec
from nats.errors import Error as NatsError

from chaos.ledger import Ledger, Operation, Published
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.operations.requests import (
    ACTOR_ID_HEADER,
    ACTOR_TYPE_HEADER,
    CORRELATION_HEADER,
)

USERS: Final = 24
SHARED_ITEMS: Final = 6
PUBLISHERS: Final = 4
ANSWER_WITHIN: Final = 2.0
"""Seconds that a user waits for a reply. A process that was killed never sends one."""

JOB: Final = Actor("job", "chaos")
HEADERS: Final = {ACTOR_TYPE_HEADER: "user", ACTOR_ID_HEADER: "42"}


class Uncertain(Exception):
    """No reply or an error reply: the operation may or may not have happened."""


class Load:
    """Operations and direct publishes at a steady rate.

    ``begun`` counts the operations, whose correlation ids are ``operation 1`` and so on.
    ``answers`` are the times of the monotonic clock at which operations were acknowledged, and
    ``publishes`` those of direct publishes.
    ``surprises`` are unexpected replies, such as a 404 for an item that exists.
    """

    def __init__(self, bus: Bus, ledger: Ledger, *, operations: float, publishes: float) -> None:
        self.bus = bus
        self.ledger = ledger
        self._user_pause = USERS / operations
        self._publisher_pause = PUBLISHERS / publishes
        self._shared: list[str] = []
        self._may_publish = asyncio.Event()
        self._may_publish.set()
        self._publishing = 0
        self.begun = 0
        self.uncertain = 0
        self.published = 0
        self.answers: list[float] = []
        self.publishes: list[float] = []
        self.surprises: list[str] = []

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        self._shared = [await self._create_until_acknowledged() for _ in range(SHARED_ITEMS)]
        async with asyncio.TaskGroup() as tasks:
            works = [tasks.create_task(self._use()) for _ in range(USERS)]
            works += [tasks.create_task(self._publish(number)) for number in range(PUBLISHERS)]
            try:
                yield
            finally:
                for work in works:
                    work.cancel()

    @contextlib.asynccontextmanager
    async def without_publishes(self) -> AsyncIterator[None]:
        """Pause direct publishes, once the pending ones are acknowledged."""
        self._may_publish.clear()
        try:
            while self._publishing:  # noqa: ASYNC110 - rare and short
                await asyncio.sleep(0.02)
            yield
        finally:
            self._may_publish.set()

    async def ask(self, subject: str, request: Mapping[str, Any]) -> tuple[str, Any]:
        """Call an operation, and return its correlation id and reply.

        Raises:
            Uncertain: there was no reply, or an error.
        """
        self.begun += 1
        operation = f"operation {self.begun}"
        headers = {**HEADERS, CORRELATION_HEADER: operation}
        try:
            reply = await self.bus.nc.request(
                subject, msgspec.json.encode(request), timeout=ANSWER_WITHIN, headers=headers
            )
        except (NatsError, OSError, TimeoutError) as error:
            self.uncertain += 1
            raise Uncertain from error
        if reply.headers and (code := reply.headers.get("Nats-Service-Error-Code")):
            self.uncertain += 1
            if not code.startswith("5"):
                self.surprises.append(f"{subject}: {reply.data.decode()}")
            raise Uncertain
        self.answers.append(time.monotonic())
        return operation, msgspec.json.decode(reply.data)

    async def create(self) -> tuple[str, str]:
        """Add a media item, and return the ids of the operation and of the item.

        Raises:
            Uncertain: there was no reply, or an error.
        """
        request = {"type": "tv_show", "title": "A show"}
        operation, answer = await self.ask("media.create", request)
        self.ledger.note(Operation(operation, 1))
        return operation, str(answer["id"])

    async def _create_until_acknowledged(self) -> str:
        while True:
            try:
                _, item = await self.create()
            except Uncertain:
                await asyncio.sleep(0.1)
            else:
                return item

    async def _use(self) -> None:
        """Change an item of this user, and those that all users share."""
        own: str | None = None
        while True:
            await asyncio.sleep(random.uniform(0, 2 * self._user_pause))
            try:
                if own is None:
                    _, own = await self.create()
                else:
                    own = await self._work_on(own)
            except Uncertain:
                own = None  # it may be deleted

    async def _work_on(self, own: str) -> str | None:
        shared = random.choice(self._shared)
        match random.choices(["rename", "share", "monitor", "delete"], [4, 3, 2, 1])[0]:
            case "rename":
                await self._rename(own)
            case "share":
                await self._rename(shared)
            case "monitor":
                request = {"ids": [own, shared], "monitored": random.random() < 0.5}
                await self._perform("media.set_monitored", request, lambda a: len(a["items"]))
            case _:
                await self._perform("media.delete", {"ids": [own]}, lambda a: len(a["ids"]))
                return None
        return own

    async def _rename(self, item: str) -> None:
        title = f"Title {self.begun}"  # unique, so that each is a change
        await self._perform("media.update", {"id": item, "title": title}, lambda _: 1)

    async def _perform(
        self, subject: str, request: Mapping[str, Any], events: Callable[[Any], int]
    ) -> None:
        operation, answer = await self.ask(subject, request)
        self.ledger.note(Operation(operation, events(answer)))

    async def _publish(self, publisher: int) -> None:
        """Publish numbered events one after the other; retry each until it is acknowledged."""
        number = 0
        while True:
            await asyncio.sleep(random.uniform(0, 2 * self._publisher_pause))
            await self._may_publish.wait()
            number += 1
            job = JobExecuted(job_name=f"publisher {publisher}", items_processed=number)
            resource = Resource("publisher", str(publisher))
            await self._publish_until_acknowledged(Envelope.of(job, actor=JOB, resource=resource))

    async def _publish_until_acknowledged(self, envelope: Envelope) -> None:
        self._publishing += 1
        try:
            while True:
                try:
                    await self.bus.publish_envelope(envelope)
                except PublishFailed:
                    await asyncio.sleep(0.1)
                else:
                    self.published += 1
                    self.publishes.append(time.monotonic())
                    self.ledger.note(Published(envelope.id))
                    return
        finally:
            self._publishing -= 1
