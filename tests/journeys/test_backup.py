"""A backup of a running mediabus, restored elsewhere: nothing lost, nothing delivered twice."""

import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from mediabus.schemas.identity import uuid7
from tests.support import commands
from tests.support.eventually import eventually

POISON = b"no event"
BEFORE = 300
"""Events that other programs publish before the backup begins."""
SERVERS_WITHIN = 90.0
"""Seconds for servers to start and stop, which a busy machine makes slow."""


@pytest.fixture
def homes() -> Iterator[tuple[Path, Path]]:
    """Two empty data directories, where the user that PostgreSQL runs as may go."""
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-backup-") as old,
        tempfile.TemporaryDirectory(prefix="mediabus-restore-") as new,
    ):
        yield Path(old).resolve(), Path(new).resolve()


@contextlib.asynccontextmanager
async def running(home: Path) -> AsyncIterator[Client]:
    """`mediabus up` in a data directory, and a connection to its NATS; killed on leaving."""
    process = await commands.start(
        "--data-dir", str(home), "up", MEDIABUS_HTTP_PORT="0", MEDIABUS_LOG_FORMAT="json"
    )
    drained = [
        asyncio.create_task(stream.read()) for stream in (process.stdout, process.stderr) if stream
    ]
    try:
        nc = await eventually(lambda: connected(home), within=SERVERS_WITHIN)
        try:
            yield nc
        finally:
            await nc.close()
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), SERVERS_WITHIN) == 0
        await asyncio.gather(*drained)


async def connected(home: Path) -> Client | None:
    """A connection to the servers of a data directory, once operations are answered."""
    with contextlib.suppress(OSError, ValueError, nats.errors.Error):
        url = json.loads((home / "connection.json").read_text())["nats_url"]
        nc = await nats.connect(url, allow_reconnect=False)
        try:
            await nc.request("media.list", b"{}", timeout=2)
            await nc.request("history.list", b"{}", timeout=2)
        except nats.errors.Error:
            await nc.close()
        else:
            return nc
    return None


async def publish(nc: Client, number: int) -> str:
    """Publish an event of another program, and return its id."""
    event = {
        "specversion": "1.0",
        "id": str(uuid7()),
        "source": "my/program",
        "type": "job.executed",
        "time": "2026-11-28T10:00:00Z",
        "actortype": "job",
        "actorid": "scan",
        "data": {"job_name": f"scan {number}"},
    }
    headers = {"Nats-Msg-Id": str(event["id"])}
    body = json.dumps(event).encode()
    await nc.jetstream().publish("events.system.job.executed.-", body, headers=headers)
    return str(event["id"])


async def ask(nc: Client, subject: str, request: dict[str, Any]) -> dict[str, Any]:
    reply = await nc.request(subject, json.dumps(request).encode(), timeout=10)
    answer: dict[str, Any] = json.loads(reply.data)
    assert "error" not in answer, answer
    return answer


async def keep_busy(nc: Client) -> None:
    """Create media items and publish events until cancelled."""
    for number in range(1_000_000):
        await ask(nc, "media.create", {"type": "movie", "title": f"M {uuid4()}", "year": 2021})
        await publish(nc, number)


async def history(nc: Client) -> list[dict[str, Any]]:
    """Return all stored events."""
    events, after = [], None
    while True:
        page = await ask(nc, "history.list", {"limit": 500, "after": after})
        events += page["items"]
        after = page["next"]
        if after is None:
            return events


async def taken(nc: Client, limit: int) -> list[str]:
    """Return the ids of what the consumer `notifier` gets next, acknowledged."""
    subscription = await nc.jetstream().pull_subscribe_bind("notifier", "EVENTS")
    ids: list[str] = []
    with contextlib.suppress(nats.errors.TimeoutError):
        while len(ids) < limit:
            for message in await subscription.fetch(min(100, limit - len(ids)), timeout=2):
                if message.data != POISON:
                    ids.append(json.loads(message.data)["id"])
                await message.ack_sync()
    return ids


async def prepare(nc: Client) -> tuple[list[str], list[str]]:
    """Publish events, one of them invalid, and let a consumer take some. Return both ids."""
    published = [await publish(nc, number) for number in range(BEFORE)]
    await nc.jetstream().publish("events.system.job.executed.-", POISON)
    config = ConsumerConfig(durable_name="notifier", ack_policy=AckPolicy.EXPLICIT)
    await nc.jetstream().add_consumer("EVENTS", config)
    return published, await taken(nc, 200)


@pytest.mark.timeout(360)
async def test_a_backup_under_load_restores_without_loss_or_duplicates(
    homes: tuple[Path, Path],
) -> None:
    old, new = homes
    file = old.parent / f"{old.name}.backup"
    try:
        async with running(old) as nc:
            published, notified = await prepare(nc)
            load = asyncio.create_task(keep_busy(nc))
            done = await commands.with_servers("--data-dir", str(old), "backup", str(file))
            load.cancel()
            assert done.code == 0, done.err
        assert file.stat().st_mode & 0o077 == 0

        restored = await commands.with_servers("--data-dir", str(new), "restore", str(file))
        assert restored.code == 0, restored.err

        async with running(new) as nc:
            [dead] = await eventually(lambda: dead_letters(new))
            assert dead["kind"] == "invalid"
            items = (await ask(nc, "media.list", {"limit": 500}))["items"]
            added = await eventually(
                lambda: added_of(nc, {item["id"] for item in items}), within=30
            )
            events = await history(nc)
            ids = Counter(event["id"] for event in events)
            assert max(ids.values()) == 1
            assert set(published) <= ids.keys()
            assert added == Counter({item["id"]: 1 for item in items})
            seen = Counter([*notified, *await taken(nc, 1_000_000)])
            assert seen == ids
            await ask(nc, "media.create", {"type": "movie", "title": "After", "year": 2026})
            await eventually(lambda: told(nc, "After"))
    finally:
        file.unlink(missing_ok=True)


async def dead_letters(home: Path) -> list[dict[str, Any]] | None:
    done = await commands.mediabus("--data-dir", str(home), "dead", "list", "--json")
    return [json.loads(line) for line in done.out.splitlines()] or None


async def added_of(nc: Client, items: set[str]) -> "Counter[str] | None":
    """Return how often each item was added, once the history has all of them."""
    found = Counter(
        event["resource_id"] for event in await history(nc) if event["type"] == "media_item.added"
    )
    return found if items <= found.keys() else None


async def told(nc: Client, title: str) -> bool:
    return any(event["data"].get("title") == title for event in await history(nc))


@pytest.mark.timeout(360)
async def test_a_restore_overwrites_nothing(homes: tuple[Path, Path]) -> None:
    old, new = homes
    file = old.parent / f"{old.name}.backup"
    try:
        async with running(old) as nc:
            await publish(nc, 1)
            done = await commands.with_servers("--data-dir", str(old), "backup", str(file))
            assert done.code == 0, done.err
            again = await commands.with_servers("--data-dir", str(old), "backup", str(file))
            assert again.code == 1
            assert "exists: choose another name" in again.err
        refused = await commands.with_servers("--data-dir", str(old), "restore", str(file))
        assert refused.code == 1
        assert "is not empty: restore to an empty" in refused.err
        file.write_bytes(file.read_bytes()[:-100])
        broken = await commands.with_servers("--data-dir", str(new), "restore", str(file))
        assert broken.code == 1
        assert "is incomplete" in broken.err
    finally:
        file.unlink(missing_ok=True)
