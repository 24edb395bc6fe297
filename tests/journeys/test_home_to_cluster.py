"""mediabus moves from one machine to a cluster, by the commands of docs/operations.md."""

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from mediabus.runtime.settings import DatabaseSettings, HttpSettings, NatsSettings, Settings
from tests.journeys.test_backup import (
    BEFORE,
    POISON,
    added_of,
    ask,
    history,
    keep_busy,
    publish,
    running,
    told,
)
from tests.support import commands
from tests.support.cluster import NatsCluster, nats_cluster
from tests.support.eventually import eventually
from tests.support.patroni import PatroniCluster, patroni_cluster
from tests.support.processes import processes

OPERATIONS_MD = commands.ROOT / "docs/operations.md"
COMMANDS_WITHIN = 120.0
TAKEN_AT_HOME = 200
TAKEN_WITHIN = 90.0
"""Seconds, because a late event is delivered again after 30."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A data directory, where the user that PostgreSQL runs as may go."""
    with tempfile.TemporaryDirectory(prefix="mediabus-home-") as directory:
        yield Path(directory).resolve()


@pytest.fixture
def nats_servers(tmp_path: Path) -> Iterator[NatsCluster]:
    with nats_cluster(tmp_path) as running_servers:
        yield running_servers


@pytest.fixture
def postgres() -> Iterator[PatroniCluster]:
    with patroni_cluster() as running_servers:
        yield running_servers


class Steps:
    """The commands of "From home to a cluster", with the names of this machine."""

    def __init__(self, home: Path, nats_servers: NatsCluster, postgres: PatroniCluster) -> None:
        names = {
            "mediabus-data": str(home),
            "home.backup": str(home / "home.backup"),
            "nats://n1.example:4222,nats://n2.example:4222,nats://n3.example:4222": (
                nats_servers.url
            ),
            "db.example:5000": f"127.0.0.1:{postgres.haproxy.port}",
        }
        section = OPERATIONS_MD.read_text().partition("### From home to a cluster")[2]
        text = section.partition("\n## ")[0]
        for name, here in names.items():
            assert name in text
            text = text.replace(name, here)
        assert "example" not in text
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        self.back_up, self.restore, check = blocks
        variables = re.findall(r"^ *export .*", self.restore, re.MULTILINE)
        self.check = "\n".join([*variables, check])  # in the shell of the restore

    async def run(self, block: str) -> str:
        """Run a block in a new shell, and return its output."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", block),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**commands.environment(), "PATH": path},
        )
        try:
            out, _ = await asyncio.wait_for(shell.communicate(), COMMANDS_WITHIN)
        finally:
            if shell.returncode is None:
                shell.kill()
                await shell.wait()
        assert shell.returncode == 0, out.decode()
        return out.decode()


@contextlib.asynccontextmanager
async def connected(nats_servers: NatsCluster) -> AsyncIterator[Client]:
    nc = await nats.connect(nats_servers.url.split(","))
    try:
        yield nc
    finally:
        await nc.close()


async def used_for_a_while(nc: Client) -> tuple[list[str], list[str], set[str]]:
    """Return the published events, those that a consumer took, and the media items."""
    published = [await publish(nc, number) for number in range(BEFORE)]
    await nc.jetstream().publish("events.system.job.executed.-", POISON)
    config = ConsumerConfig(durable_name="notifier", ack_policy=AckPolicy.EXPLICIT)
    await nc.jetstream().add_consumer("EVENTS", config)
    notified = await taken(nc, TAKEN_AT_HOME)
    load = asyncio.create_task(keep_busy(nc))
    await eventually(lambda: has_items(nc, 20), within=60)
    load.cancel()
    await asyncio.wait([load])
    items = {item["id"] for item in (await ask(nc, "media.list", {"limit": 500}))["items"]}
    return published, notified, items


async def has_items(nc: Client, number: int) -> bool:
    return len((await ask(nc, "media.list", {"limit": 500}))["items"]) >= number


async def all_stored(nc: Client) -> list[str] | None:
    """Return the ids of all stored events, once the persister has read the whole stream."""
    if await has_backlog(nc, "persister"):
        return None
    return [event["id"] for event in await history(nc)]


async def taken(nc: Client, limit: int | None = None) -> list[str]:
    """Return the ids of the events that the consumer `notifier` has not acknowledged yet.

    Counts an event once that is delivered again because its acknowledgement was late.
    """
    subscription = await nc.jetstream().pull_subscribe_bind("notifier", "EVENTS")
    ids: list[str] = []
    async with asyncio.timeout(TAKEN_WITHIN):
        while len(ids) != limit and await has_backlog(nc, "notifier"):
            batch = 100 if limit is None else min(100, limit - len(ids))
            with contextlib.suppress(nats.errors.TimeoutError):
                for message in await subscription.fetch(batch, timeout=2):
                    found = "" if message.data == POISON else json.loads(message.data)["id"]
                    await message.ack_sync(timeout=20)
                    if found and not (message.metadata.num_delivered > 1 and found in ids):
                        ids.append(found)
    await subscription.unsubscribe()
    return ids


async def has_backlog(nc: Client, consumer: str) -> bool:
    info = await nc.jetstream().consumer_info("EVENTS", consumer)
    return bool(info.num_pending or info.num_ack_pending)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_the_documented_steps_lead_from_home_to_a_cluster(
    home: Path, nats_servers: NatsCluster, postgres: PatroniCluster, tmp_path: Path
) -> None:
    steps = Steps(home, nats_servers, postgres)
    async with running(home) as nc:
        published, notified, items = await used_for_a_while(nc)
        await steps.run(steps.back_up)
    await steps.run(steps.restore)
    settings = Settings(
        data_dir=str(tmp_path / "data"),
        nats=NatsSettings(url=nats_servers.url, replicas=3),
        database=DatabaseSettings(url=postgres.url_of("mediabus")),
        http=HttpSettings(port=0),
    )
    with processes(settings, tmp_path, "service", "service", "persist", "persist"):
        await eventually(nats_servers.is_whole, within=60)
        async with connected(nats_servers) as nc:
            added = await eventually(lambda: added_of(nc, items), within=60)
            assert set(added.values()) == {1}
            stored = Counter(await eventually(lambda: all_stored(nc), within=60))
            assert max(stored.values()) == 1
            assert set(published) <= stored.keys()
            seen = Counter([*notified, *await taken(nc)])
            assert (list(stored - seen), list(seen - stored)) == ([], [])
            await ask(nc, "media.create", {"type": "movie", "title": "After", "year": 2026})
            await eventually(lambda: told(nc, "After"), within=60)
            assert len(await taken(nc)) == 1
            discarded = await commands.mediabus(
                *("dead", "discard", "--all"), stdin=b"y\n", MEDIABUS_NATS_URL=nats_servers.url
            )
            assert discarded.code == 0, discarded.err
            await steps.run(steps.check)
