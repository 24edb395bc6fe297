"""A restore waits for the server that restores a stream, which a cluster finds a moment later."""

import asyncio

import pytest
from nats.aio.msg import Msg

from mediabus.backup import streams
from mediabus.backup.archive import BackupError
from mediabus.runtime.nats.bus import Bus

CHUNKS = "restore.chunks"


async def test_a_chunk_is_sent_again_until_a_server_listens(bus: Bus) -> None:
    received: list[bytes] = []

    async def receive(message: Msg) -> None:
        received.append(message.data)
        await message.respond(b"")

    sending = asyncio.create_task(streams._ask(bus, CHUNKS, b"chunk"))
    await asyncio.wait([sending], timeout=0.3)
    assert not sending.done()
    await bus.nc.subscribe(CHUNKS, cb=receive)
    await asyncio.wait_for(sending, 10)
    assert received == [b"chunk"]


async def test_a_restore_ends_if_no_server_listens(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LISTENS_WITHIN", 0.2)
    with pytest.raises(BackupError, match=f"no NATS server listens on {CHUNKS}"):
        await asyncio.wait_for(streams._ask(bus, CHUNKS, b"chunk"), 10)
