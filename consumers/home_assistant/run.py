"""Keep Home Assistant up to date, through outages of NATS and of the broker."""

import asyncio
import contextlib
import datetime
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NoReturn

import aiomqtt
import msgspec
from aiomqtt.exceptions import MqttConnectError

from mediabus.consumers.home_assistant import event_message
from mediabus.consumers.home_assistant.board import Board
from mediabus.consumers.home_assistant.commands import Commands
from mediabus.consumers.home_assistant.library import Library, LibraryUnavailable
from mediabus.consumers.home_assistant.session import session
from mediabus.consumers.home_assistant.settings import MqttConfig
from mediabus.runtime import metrics
from mediabus.runtime.error_text import error_text

log: Final = logging.getLogger("mediabus.mqtt")

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
"""Seconds between two connections to the broker."""

WAS_STABLE: Final = 30.0
"""Seconds after which a lost connection is retried soon."""

COUNT_EVERY: Final = 60.0
COUNT_AFTER: Final = 1.0
"""Seconds after a failed download, by which time it is in the history."""

RESTART_AFTER: Final = 5.0
"""Seconds after an unexpected error of one part."""

FAILED: Final = "download.failed"
COUNTED: Final = {FAILED, "app.unreachable", "app.recovered"}
"""The types of events after which the figures are read again."""


async def keep_home_assistant(library: Library, config: MqttConfig) -> NoReturn:
    """Publish states and events to the broker and run its commands, until cancelled."""
    board = Board()
    count_now = asyncio.Event()
    async with _measured(), asyncio.TaskGroup() as tasks:
        commands = Commands(library, tasks)
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "statuses": lambda: _follow_statuses(library, board),
            "events": lambda: _follow_events(library, board, count_now),
            "figures": lambda: _count(library, board, count_now),
            "broker": lambda: _stay_connected(config, library, board, commands),
        }
        for name, part in parts.items():
            tasks.create_task(_restarted(name, part), name=f"mqtt {name}")
    raise AssertionError("the parts run until cancelled")


@contextlib.asynccontextmanager
async def _measured() -> AsyncIterator[None]:
    """Expose whether the broker is connected, while open."""
    metrics.MQTT_CONNECTED.set(0)
    try:
        yield
    finally:
        metrics.MQTT_CONNECTED.remove()


async def _restarted(name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Run a part until cancelled. An error of one part must not end the others."""
    while True:
        try:
            await part()
        except LibraryUnavailable as error:
            log.warning("NATS unavailable, retrying", extra={"part": name, "error": str(error)})
        except Exception:
            log.exception("unexpected error, restarting", extra={"part": name})
        await asyncio.sleep(RESTART_AFTER)


async def _follow_statuses(library: Library, board: Board) -> None:
    async for _ in library.follow_statuses():
        board.is_complete = True
        board.change()


async def _follow_events(library: Library, board: Board, count_now: asyncio.Event) -> None:
    async for envelope in library.events():
        if not event_message.is_live(envelope):
            continue
        board.add_event(event_message.message(envelope))
        board.figures.last_event = event_message.text_of(envelope)
        attributes = event_message.attributes(envelope)
        board.figures.last_event_attributes = msgspec.json.encode(attributes)
        board.change()
        if envelope.type in COUNTED:
            count_now.set()


async def _count(library: Library, board: Board, count_now: asyncio.Event) -> None:
    """Count what only the history and the streams know, each minute and after a failure."""
    while True:
        within = COUNT_EVERY
        try:
            await _count_once(library, board)
        except LibraryUnavailable as error:
            log.debug("figures unavailable", extra={"error": str(error)})
            within = min(RESTART_AFTER, COUNT_EVERY)
        board.change()
        try:
            await asyncio.wait_for(count_now.wait(), within)
            await asyncio.sleep(COUNT_AFTER)
        except TimeoutError:
            pass
        count_now.clear()


async def _count_once(library: Library, board: Board) -> None:
    """Read the figures, each of which another process may serve."""
    if board.is_complete:
        await library.forget_purged()
    figures = board.figures
    figures.dead_letters = await library.dead_letters()
    unanswered: list[LibraryUnavailable] = []
    try:
        figures.failed_today = await library.failed_since(_midnight())
    except LibraryUnavailable as error:
        unanswered.append(error)
    figures.apps = await library.apps()
    if unanswered:
        raise unanswered[0]


def _midnight() -> datetime.datetime:
    """Return when the day began in the time zone of this machine."""
    now = datetime.datetime.now().astimezone()
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


async def _stay_connected(
    config: MqttConfig, library: Library, board: Board, commands: Commands
) -> None:
    """Connect to the broker again and again, with growing delays while it is unreachable."""
    wait = FIRST_WAIT
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await _connected_once(config, library, board, commands)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            reason = _reason(error)
        if loop.time() - began > WAS_STABLE:
            wait = FIRST_WAIT
        delay = wait * random.uniform(0.5, 1)  # noqa: S311 - spreads reconnects, no secret
        extra = {"host": config.host, "port": config.port, "reason": reason}
        log.warning(
            "MQTT broker unavailable, retrying", extra={**extra, "retry_in": round(delay, 1)}
        )
        await asyncio.sleep(delay)
        wait = min(wait * 2, LONGEST_WAIT)


def _first(group: BaseExceptionGroup) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _reason(error: Exception) -> str:
    if isinstance(error, MqttConnectError):
        return f"{error_text(error)}: check mqtt.user and mqtt.password"
    return error_text(error)


async def _connected_once(
    config: MqttConfig, library: Library, board: Board, commands: Commands
) -> NoReturn:
    """Work over one connection. Raises the error that ends it."""
    try:
        async with session(config, library, board, commands) as opened:
            log.info("MQTT broker connected", extra={"host": config.host, "port": config.port})
            metrics.MQTT_CONNECTED.set(1)
            await opened.run()
    except BaseExceptionGroup as group:
        broken, other = group.split((aiomqtt.MqttError, OSError, ValueError))
        if other is not None or broken is None:
            raise
        raise aiomqtt.MqttError(error_text(_first(broken))) from None
    finally:
        metrics.MQTT_CONNECTED.set(0)
    raise AssertionError("a session runs until it fails")
