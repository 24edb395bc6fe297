"""What `mediabus doctor` looks at, one finding each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from consumers.dead_letters import DeadLetters
from consumers.persister.run import NAME as PERSISTER
from schemas.commands import HistoryEvent, ListHistory, Page
from schemas.subjects import DEAD_LETTERS_STREAM, DOWNLOAD_STATUS_STREAM, EVENTS_STREAM
from service.cli.asking import ask
from service.cli.face import Face
from service.cli.output import local, plain
from service.cli.problems import Unanswered
from service.clients.sessions import client_settings
from service.downloads.shown import read
from service.monitor.unwatched import SUBJECT
from service.runtime.bus import Bus, CannotConnect
from service.runtime.streams import NEEDS_SERVER

FAR_BEHIND: Final = 10_000
"""Events; the persister stores as many within a second."""

SERVICES_ANSWER_WITHIN: Final = 0.5
EXPECTED: Final = {
    "media.create": "mediabus service",
    "downloads.initiate": "mediabus service",
    "history.list": "mediabus persist",
}
"""An operation of each service, and the command that serves it."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, whether it is well, what was found and, where it is not, what to do."""

    name: str
    ok: bool
    found: str
    advice: str | None = None


async def examine(face: Face) -> AsyncGenerator[Finding, None]:
    """Looks at the settings, and at everything that can be seen by way of NATS."""
    for line in face.exposed():
        found, _, advice = line.partition(": ")
        yield _problem("settings", found, advice)
    enabled = [client.name for client in client_settings(face.settings()) if client.enabled]
    try:
        async with face.connected() as bus:
            yield _server(bus)
            for stream in (EVENTS_STREAM, DEAD_LETTERS_STREAM):
                yield await _stream(bus, stream)
            yield await _persister(bus)
            yield await _dead_letters(bus)
            async for finding in _services(bus):
                yield finding
            yield await _database(bus)
            async for finding in _clients(bus, enabled):
                yield finding
    except CannotConnect as error:
        yield Finding(name="NATS", ok=False, found="out of reach", advice=str(error))


def _server(bus: Bus) -> Finding:
    version = bus.nc.connected_server_version
    found = (version.major, version.minor, version.patch)
    text = ".".join(map(str, found))
    url = bus.nc.connected_url.netloc.rpartition("@")[2] if bus.nc.connected_url else "?"
    if found < NEEDS_SERVER:
        needed = ".".join(map(str, NEEDS_SERVER))
        return _problem("NATS", f"{text} at {url}", f"update nats-server to {needed} or newer")
    return Finding(name="NATS", ok=True, found=f"{text} at {url}")


async def _stream(bus: Bus, name: str) -> Finding:
    try:
        info = await bus.js.stream_info(name)
    except NotFoundError:
        advice = "start `mediabus up` or `mediabus service`: either makes it"
        return _problem(f"stream {name}", "missing", advice)
    except (NatsError, APIError, TimeoutError) as error:
        advice = "is JetStream enabled, and has its cluster a leader?"
        return _problem(f"stream {name}", _said(error), advice)
    found = f"{info.state.messages} messages, {info.state.bytes / 1e6:.1f} MB"
    copies = (info.cluster and info.cluster.replicas) or []
    if not copies:
        return Finding(name=f"stream {name}", ok=True, found=found)
    found = f"{found}, {len(copies) + 1} replicas"
    behind = [str(copy.name) for copy in copies if copy.offline or not copy.current]
    if behind:
        advice = f"is the NATS server {' or '.join(behind)} running? no more of them may fail"
        return _problem(f"stream {name}", f"{found}, {len(behind)} of them behind", advice)
    return Finding(name=f"stream {name}", ok=True, found=found)


async def _persister(bus: Bus) -> Finding:
    try:
        info = await bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
    except NotFoundError:
        return _problem("persister", "never ran", "start `mediabus persist` or `mediabus up`")
    except (NatsError, APIError, TimeoutError) as error:
        return _problem("persister", _said(error), "see the stream above")
    behind, in_hand = info.num_pending or 0, info.num_ack_pending or 0
    found = f"{behind} events to read, {in_hand} being stored"
    if behind > FAR_BEHIND:
        advice = (
            "it is behind: look at its log and at PostgreSQL, or start another `mediabus persist`"
        )
        return _problem("persister", found, advice)
    if (behind or in_hand) and not info.num_waiting and not info.push_bound:
        advice = "nobody is asking for them: start `mediabus persist` or `mediabus up`"
        return _problem("persister", found, advice)
    return Finding(name="persister", ok=True, found=found)


async def _dead_letters(bus: Bus) -> Finding:
    try:
        count = await DeadLetters(bus).count()
    except (NatsError, APIError, TimeoutError) as error:
        return _problem("dead letters", _said(error), "see the stream above")
    if count:
        advice = "`mediabus dead list` says why; then retry or discard them"
        return _problem("dead letters", str(count), advice)
    return Finding(name="dead letters", ok=True, found="none")


async def _services(bus: Bus) -> AsyncIterator[Finding]:
    served = await _served(bus)
    for operation, command in EXPECTED.items():
        name = operation.partition(".")[0]
        count = served.get(operation, 0)
        if count:
            yield Finding(name=name, ok=True, found=f"served by {count}")
        else:
            yield _problem(name, "nobody serves it", f"start `{command}` or `mediabus up`")


async def _served(bus: Bus) -> dict[str, int]:
    """How many serve each subject, as the services themselves say."""
    answers: list[Msg] = []

    async def take(message: Msg) -> None:
        answers.append(message)

    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox, cb=take)
    await bus.nc.publish("$SRV.INFO", reply=inbox)
    await asyncio.sleep(SERVICES_ANSWER_WITHIN)  # nobody knows how many there are to wait for
    with contextlib.suppress(NatsError):
        await subscription.unsubscribe()
    served: dict[str, int] = {}
    for answer in answers:
        for endpoint in _endpoints(answer.data):
            subject = endpoint.get("subject", "")
            served[subject] = served.get(subject, 0) + 1
    return served


def _endpoints(body: bytes) -> list[dict[str, Any]]:
    """Those of one service; none of what is no such answer (no responders, for one)."""
    try:
        return list(msgspec.json.decode(body, type=dict[str, Any])["endpoints"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return []


async def _database(bus: Bus) -> Finding:
    try:
        page = await ask(bus, "history.list", ListHistory(limit=1), Page[HistoryEvent])
    except Unanswered as error:
        advice = "is PostgreSQL running, and does the persister reach it? its log says more"
        return _problem("PostgreSQL", str(error), advice)
    newest = f"newest event {local(page.items[0].time)}" if page.items else "no events yet"
    return Finding(name="PostgreSQL", ok=True, found=newest)


async def _clients(bus: Bus, enabled: Collection[str]) -> AsyncIterator[Finding]:
    """One finding a download client that a monitor has met, or that is enabled here: as a monitor
    last saw it, unless none watches it."""
    try:
        watched = await _watched(bus)
        clients = (await read(bus)).clients
    except (NatsError, APIError, TimeoutError) as error:
        yield _problem("download clients", _said(error), "see the streams above")
        return
    for name in sorted({*enabled, *clients} - watched):
        advice = "start `mediabus monitor` or `mediabus up` with this client in its settings"
        yield _problem(f"client {name}", "nobody watches it", advice)
    for name, status in sorted(clients.items()):
        if name not in watched:
            continue
        if status.reachable:
            found = f"{status.kind} {status.version or ''}".rstrip()
            yield Finding(name=f"client {name}", ok=True, found=plain(found))
        else:
            advice = "is it running, and do its url, username and password fit? see docs/clients.md"
            found = plain(f"{status.reason}: {status.message}")
            yield _problem(f"client {name}", found, advice)


async def _watched(bus: Bus) -> set[str]:
    """The keys of the bucket that a monitor follows: NATS knows it for a minute after its end."""
    consumers = await bus.js.consumers_info(DOWNLOAD_STATUS_STREAM)
    followed = (subject for it in consumers for subject in it.config.filter_subjects or [])
    return {subject.removeprefix(SUBJECT) for subject in followed}


def _problem(name: str, found: str, advice: str) -> Finding:
    return Finding(name=name, ok=False, found=found, advice=advice)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
