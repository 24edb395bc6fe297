"""NATS streams in a backup: snapshots of JetStream, with consumers and their positions.

The protocol is that of ``$JS.API.STREAM.SNAPSHOT`` and ``RESTORE``: the server sends a snapshot in
chunks and waits for the acknowledgement of each. A restore sends the chunks back in the same way.
"""

import asyncio
import time
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.js.errors import NotFoundError

from mediabus.backup.archive import Archive, BackupError, StreamBackup
from mediabus.backup.progress import Progress
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.client import NotAllowed
from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DOWNLOAD_STATUS_STREAM,
    EVENTS_STREAM,
    NOTIFIER_STREAM,
    REPLAY_STREAM,
)

STREAMS: Final = (EVENTS_STREAM, DEAD_LETTERS_STREAM, REPLAY_STREAM, DOWNLOAD_STATUS_STREAM)
CHUNK: Final = 128 * 1024
API: Final = "$JS.API.STREAM"
CHUNK_WITHIN: Final = 60.0
"""Seconds for one chunk. The server reads and compresses it, and may wait for its disk."""
LISTENS_WITHIN: Final = 10.0
"""Seconds until a server must listen to a request."""


class _ServerError(msgspec.Struct):
    description: str = ""


class _Reply(msgspec.Struct):
    error: _ServerError | None = None
    config: msgspec.Raw = msgspec.Raw(b"{}")
    state: msgspec.Raw = msgspec.Raw(b"{}")
    deliver_subject: str = ""


async def streams_to_save(bus: Bus) -> tuple[str, ...]:
    """Return the streams of a backup, in the order in which they are copied.

    The state of the notifier comes before the events and the positions of its consumers: it then
    sends nothing twice after a restore. It exists if there are targets, and keys that are older
    than it may not read it.
    """
    try:
        has_notifier = await messages_in(bus, NOTIFIER_STREAM) is not None
    except NotAllowed:
        has_notifier = False
    return (NOTIFIER_STREAM, *STREAMS) if has_notifier else STREAMS


async def save_stream(bus: Bus, archive: Archive, name: str, progress: Progress) -> StreamBackup:
    """Write a snapshot of a stream. Raises BackupError if NATS does not send all of it."""
    chunks: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox, cb=chunks.put)
    try:
        request = {"deliver_subject": inbox, "no_consumers": False, "chunk_size": CHUNK}
        reply = await _ask(bus, f"{API}.SNAPSHOT.{name}", msgspec.json.encode(request))
        progress.begin(name)
        with archive.writing(_member(name)) as member:
            while (chunk := await _next(chunks, name)).data:
                member.write(chunk.data)
                progress.add(len(chunk.data))
                if chunk.reply:
                    await bus.nc.publish(chunk.reply, b"")
        _check_end(chunk, name)
    finally:
        await subscription.unsubscribe()
    return StreamBackup(name, reply.config, reply.state)


async def _next(chunks: "asyncio.Queue[Msg]", name: str) -> Msg:
    try:
        return await asyncio.wait_for(chunks.get(), CHUNK_WITHIN)
    except TimeoutError as error:
        raise BackupError(
            f"NATS sent no more of stream {name} within {CHUNK_WITHIN:.0f} s: run it again"
        ) from error


def _check_end(last: Msg, name: str) -> None:
    status = (last.headers or {}).get("Status", "204")
    if status != "204":
        description = (last.headers or {}).get("Description", "")
        raise BackupError(f"NATS aborted the snapshot of stream {name}: {status} {description}")


async def load_stream(bus: Bus, archive: Archive, stream: StreamBackup, progress: Progress) -> None:
    """Create a stream from a snapshot. Raises BackupError if NATS refuses it."""
    request = msgspec.json.encode({"config": stream.config, "state": stream.state})
    accepted = await _ask(bus, f"{API}.RESTORE.{stream.name}", request)
    progress.begin(stream.name, archive.size_of(_member(stream.name)))
    with archive.reading(_member(stream.name)) as member:
        while chunk := member.read(CHUNK):
            await _ask(bus, accepted.deliver_subject, chunk)
            progress.add(len(chunk))
    await _ask(bus, accepted.deliver_subject, b"")


async def messages_in(bus: Bus, name: str) -> int | None:
    """Return how many messages a stream has; None if it does not exist."""
    try:
        return (await bus.js.stream_info(name)).state.messages
    except NotFoundError:
        return None


async def deleted_from(bus: Bus, name: str) -> int:
    """Return how many messages of a stream have been deleted since it was created."""
    state = (await bus.js.stream_info(name)).state
    return state.last_seq - state.messages


def last_sequence(stream: StreamBackup) -> int:
    """Return the sequence number of the last message in a snapshot."""
    state: dict[str, Any] = msgspec.json.decode(stream.state)
    return int(state["last_seq"])


async def _ask(bus: Bus, subject: str, payload: bytes) -> _Reply:
    reply = await _reply_to(bus, subject, payload)
    answer = msgspec.json.decode(reply.data, type=_Reply) if reply.data else _Reply()
    if answer.error:
        raise BackupError(f"NATS refuses {subject}: {answer.error.description}")
    return answer


async def _reply_to(bus: Bus, subject: str, payload: bytes) -> Msg:
    """Send a request, again while no server listens.

    In a cluster, the server that restores a stream may not be the one of this connection, which
    learns a moment later who listens.
    """
    deadline = time.monotonic() + LISTENS_WITHIN
    while True:
        try:
            return await bus.nc.request(subject, payload, timeout=CHUNK_WITHIN)
        except NoRespondersError as error:
            if time.monotonic() > deadline:
                raise BackupError(
                    f"no NATS server listens on {subject}: check that JetStream is enabled and, "
                    "in a cluster, has a leader"
                ) from error
            await asyncio.sleep(0.05)


def _member(name: str) -> str:
    return f"nats/{name}.snapshot"
