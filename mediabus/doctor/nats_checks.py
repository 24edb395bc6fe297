"""The checks of `mediabus doctor` that need nothing but NATS."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import APIError, NotFoundError

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.api.request import ask
from mediabus.commands.output import local_time
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.doctor.finding import Finding
from mediabus.doctor.stream_checks import trouble_of, waiting_events
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.streams import NEEDS_SERVER
from mediabus.runtime.visible import plain
from mediabus.schemas.operations.requests import HistoryEvent, ListHistory, Page
from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DOWNLOAD_STATUS_STREAM,
    EVENTS_STREAM,
    PERSISTER,
    STATUS_SUBJECT,
)
from mediabus.service.downloads.bucket import read
from mediabus.wiring.registry import PROCESSES

FAR_BEHIND: Final = 10_000
"""Events in the backlog. The persister stores this many within a second."""

SERVICES_ANSWER_WITHIN: Final = 0.5
EXPECTED: Final = {
    operation: f"mediabus {process.name}" for process in PROCESSES for operation in process.answers
}
"""One operation of each service, and the command that serves it."""


async def examine_nats(bus: Bus, enabled: Collection[str] = ()) -> AsyncIterator[Finding]:
    """Check everything that is visible through NATS. ``enabled`` are the clients that must run."""
    yield _server(bus)
    for stream in (EVENTS_STREAM, DEAD_LETTERS_STREAM):
        yield await _stream(bus, stream)
    yield await _persister(bus)
    async for finding in _other_consumers(bus):
        yield finding
    yield await _dead_letters(bus)
    async for finding in _services(bus):
        yield finding
    if waiting := await waiting_events(bus):
        yield _problem(
            "outbox",
            str(waiting),
            "see the streams above and the log of `mediabus service`",
        )
    yield await _database(bus)
    async for finding in _clients(bus, enabled):
        yield finding


def _server(bus: Bus) -> Finding:
    version = bus.nc.connected_server_version
    found = (version.major, version.minor, version.patch)
    text = ".".join(map(str, found))
    url = bus.nc.connected_url.netloc.rpartition("@")[2] if bus.nc.connected_url else "?"
    if found < NEEDS_SERVER:
        needed = ".".join(map(str, NEEDS_SERVER))
        return _problem("NATS", f"{text} at {url}", f"update nats-server to {needed} or later")
    return Finding(name="NATS", ok=True, found=f"{text} at {url}")


async def _stream(bus: Bus, name: str) -> Finding:
    try:
        info = await bus.js.stream_info(name)
    except NotFoundError:
        advice = "start `mediabus up` or `mediabus service`, which creates it"
        return _problem(f"stream {name}", "missing", advice)
    except (NatsError, APIError, TimeoutError) as error:
        advice = "check that JetStream is enabled and that its cluster has a leader"
        return _problem(f"stream {name}", error_text(error), advice)
    if trouble := trouble_of(info):
        return _problem(f"stream {name}", *trouble)
    found = f"{info.state.messages} messages, {info.state.bytes / 1e6:.1f} MB"
    copies = (info.cluster and info.cluster.replicas) or []
    if not copies:
        return Finding(name=f"stream {name}", ok=True, found=found)
    found = f"{found}, {len(copies) + 1} replicas"
    behind = [str(copy.name) for copy in copies if copy.offline or not copy.current]
    if behind:
        advice = f"check that the NATS server {' and '.join(behind)} is running"
        return _problem(f"stream {name}", f"{found}, {len(behind)} of them behind", advice)
    return Finding(name=f"stream {name}", ok=True, found=found)


async def _persister(bus: Bus) -> Finding:
    try:
        info = await bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
    except NotFoundError:
        return _problem("persister", "has never run", "start `mediabus persist` or `mediabus up`")
    except (NatsError, APIError, TimeoutError) as error:
        return _problem("persister", error_text(error), "see the stream above")
    if _is_far_behind(info):
        advice = "it lags: see its log and PostgreSQL below, or start another `mediabus persist`"
        return _problem("persister", f"{_backlog(info)}, {_unacknowledged(info)}", advice)
    if _is_abandoned(info):
        advice = "no persister is running: start `mediabus persist` or `mediabus up`"
        return _problem("persister", f"{_backlog(info)}, {_unacknowledged(info)}", advice)
    return Finding(name="persister", ok=True, found=f"{_backlog(info)}, {_unacknowledged(info)}")


async def _other_consumers(bus: Bus) -> AsyncIterator[Finding]:
    """Check the durable consumers of events, if this key may list them."""
    try:
        consumers = await bus.js.consumers_info(EVENTS_STREAM)
    except (NatsError, APIError, TimeoutError):
        return
    for info in sorted(consumers, key=lambda info: info.name):
        if info.name == PERSISTER or not info.config.durable_name:
            continue
        name = f"consumer {plain(info.name)}"
        if _is_abandoned(info):
            advice = "no process runs it: start it, or delete it with `nats consumer rm EVENTS`"
            yield _problem(name, _backlog(info), advice)
        elif _is_far_behind(info):
            yield _problem(name, _backlog(info), "it lags: see its log, or start it again")
        else:
            yield Finding(name=name, ok=True, found=_backlog(info))


def _backlog(info: ConsumerInfo) -> str:
    return f"backlog of {info.num_pending or 0} events"


def _unacknowledged(info: ConsumerInfo) -> str:
    return f"{info.num_ack_pending or 0} more being stored"


def _is_far_behind(info: ConsumerInfo) -> bool:
    return (info.num_pending or 0) > FAR_BEHIND


def _is_abandoned(info: ConsumerInfo) -> bool:
    """Return whether events wait and no process asks for them."""
    waits = info.num_pending or info.num_ack_pending
    return bool(waits) and not info.num_waiting and not info.push_bound


async def _dead_letters(bus: Bus) -> Finding:
    try:
        count = await DeadLetters(bus).count()
    except (NatsError, APIError, TimeoutError) as error:
        return _problem("dead letters", error_text(error), "see the stream above")
    if count:
        advice = "see `mediabus dead list`, then retry or discard them"
        return _problem("dead letters", str(count), advice)
    return Finding(name="dead letters", ok=True, found="none")


async def _services(bus: Bus) -> AsyncIterator[Finding]:
    answers = await _services_info(bus)
    for operation, command in EXPECTED.items():
        name = operation.partition(".")[0]
        versions = [info.version for info in answers if operation in info.subjects()]
        if versions:
            found = f"served by {len(versions)}, version {', '.join(sorted(set(versions)))}"
            yield Finding(name=name, ok=True, found=plain(found))
        else:
            yield _problem(name, "no process serves it", f"start `{command}` or `mediabus up`")


async def served(bus: Bus) -> dict[str, int]:
    """Count the processes that serve each subject, as the services report them."""
    subjects = (subject for info in await _services_info(bus) for subject in info.subjects())
    return dict(Counter(subjects))


class _Endpoint(msgspec.Struct):
    subject: str = ""


class _ServiceInfo(msgspec.Struct):
    """What a NATS micro service replies to ``$SRV.INFO``."""

    endpoints: list[_Endpoint]
    version: str = "?"

    def subjects(self) -> list[str]:
        return [endpoint.subject for endpoint in self.endpoints]


async def _services_info(bus: Bus) -> list[_ServiceInfo]:
    answers: list[Msg] = []

    async def collect(message: Msg) -> None:
        answers.append(message)

    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox, cb=collect)
    await bus.nc.publish("$SRV.INFO", reply=inbox)
    await asyncio.sleep(SERVICES_ANSWER_WITHIN)  # the number of services is unknown
    with contextlib.suppress(NatsError):
        await subscription.unsubscribe()
    infos: list[_ServiceInfo] = []
    for answer in answers:
        with contextlib.suppress(msgspec.DecodeError):  # any other reply, such as no responders
            infos.append(msgspec.json.decode(answer.data, type=_ServiceInfo))
    return infos


async def _database(bus: Bus) -> Finding:
    try:
        page = await ask(bus, "history.list", ListHistory(limit=1), Page[HistoryEvent])
    except (NoAnswer, OperationFailed) as error:
        advice = "check that PostgreSQL is running; see the log of `mediabus persist`"
        return _problem("PostgreSQL", str(error), advice)
    newest = f"newest event {local_time(page.items[0].time)}" if page.items else "no events yet"
    return Finding(name="PostgreSQL", ok=True, found=newest)


async def _clients(bus: Bus, enabled: Collection[str]) -> AsyncIterator[Finding]:
    """Check each download client that is enabled here or that a monitor has reported.

    The finding is the last status that the monitor published, or that no monitor watches it.
    """
    try:
        watched = await _watched(bus)
        shown = await read(bus)
    except (NatsError, APIError, TimeoutError) as error:
        yield _problem("download clients", error_text(error), "see the streams above")
        return
    clients = shown.clients
    if shown.unreadable:
        keys = ", ".join(sorted(shown.unreadable)[:3])
        found = plain(
            f"{len(shown.unreadable)} keys of the bucket have invalid values, such as {keys}"
        )
        advice = "another program wrote them: delete each with `nats kv del download_status KEY`"
        yield _problem("download clients", found, advice)
    for name in sorted({*enabled, *clients} - watched):
        advice = "start `mediabus monitor` or `mediabus up` with this client in its settings"
        yield _problem(f"client {name}", "no monitor watches it", advice)
    for name, status in sorted(clients.items()):
        if name not in watched:
            continue
        if status.reachable:
            found = f"{status.kind} {status.version or ''}".rstrip()
            yield Finding(name=f"client {name}", ok=True, found=plain(found))
        else:
            advice = "check that it runs, and its url, username and password (docs/clients.md)"
            found = plain(f"{status.reason}: {status.message}")
            yield _problem(f"client {name}", found, advice)


async def _watched(bus: Bus) -> set[str]:
    """Return the clients that a monitor watches. A monitor counts for a minute after its end."""
    consumers = await bus.js.consumers_info(DOWNLOAD_STATUS_STREAM)
    followed = (subject for info in consumers for subject in info.config.filter_subjects or [])
    return {subject.removeprefix(STATUS_SUBJECT) for subject in followed}


def _problem(name: str, found: str, advice: str) -> Finding:
    return Finding(name=name, ok=False, found=found, advice=advice)
