"""A client in another language takes part: what it says is kept, and it hears what happens."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mediabus.consumers.dead_letters import DeadLetters
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.service.clients.transmission import TransmissionSettings
from tests.support.eventually import eventually
from tests.support.library import Library, Refused, library, with_clients
from tests.support.ports import free_port
from tests.wire.conftest import HERE

MAGNET = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=Dune"


class Outsider:
    """The program, and the lines that it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> dict[str, Any]:
        """The next line, waited for; fails with the program's last words where it ended."""
        assert self._process.stdout
        assert self._process.stderr
        line = await asyncio.wait_for(self._process.stdout.readline(), 20)
        assert line, (await self._process.stderr.read()).decode()
        said: dict[str, Any] = msgspec.json.decode(line)
        return said

    async def ends(self) -> int:
        return await asyncio.wait_for(self._process.wait(), 10)


@contextlib.asynccontextmanager
async def outsider(node: str, url: str) -> AsyncIterator[Outsider]:
    process = await asyncio.create_subprocess_exec(
        node,
        str(HERE / "outsider.mjs"),
        url,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Outsider(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_a_javascript_client_takes_part(
    settings: Settings, bus: Bus, nats_url: str, node: str
) -> None:
    nobody = TransmissionSettings(name="nobody", url=f"http://127.0.0.1:{free_port()}")
    async with (
        library(with_clients(settings, nobody)) as user,
        outsider(node, nats_url) as program,
    ):
        said = {line["said"]: line for line in [await program.line() for _ in range(3)]}
        with pytest.raises(Refused):
            await user.ask("downloads.initiate", {"title": "Dune", "magnet": MAGNET})
        heard = await program.line()
        assert await program.ends() == 0
        failed = await user.event("download.failed")
        await eventually(lambda: DeadLetters(bus).count())
        await each_is_kept_as_it_should(user, DeadLetters(bus), said)
    assert heard["heard"] == f"events.downloads.download.failed.{failed['resource_id']}"
    assert heard["event"]["id"] == str(failed["id"])
    assert heard["event"]["actorid"] == "42"
    assert heard["event"]["data"]["title"] == "Dune"


async def each_is_kept_as_it_should(
    user: Library, dead: DeadLetters, said: dict[str, dict[str, Any]]
) -> None:
    valid = dict(await user.event("media_file.imported"))
    unregistered = dict(await user.event("playback.started"))
    for name, row in (("valid", valid), ("unregistered", unregistered)):
        assert (str(row.pop("id")), row.pop("stream_seq")) == (said[name]["id"], said[name]["seq"])
        moment = row.pop("occurred_at")
        assert moment == msgspec.convert(said[name]["time"], type(moment))
    assert valid == {
        "type": "media_file.imported",
        "category": "media",
        "severity": "info",
        "actor_type": "user",
        "actor_id": "42",
        "resource_type": "media_file",
        "resource_id": "Dune (2021).mkv",
        "correlation_id": None,
        "data": {"path": "/movies/Dune (2021).mkv", "size": 4_000_000_000, "mood": "🎬"},
    }
    assert unregistered == {
        "type": "playback.started",
        "category": "playback",
        "severity": "warning",
        "actor_type": "user",
        "actor_id": "42",
        "resource_type": "player",
        "resource_id": "living room",
        "correlation_id": "evening",
        "data": {"position": 0.5},
    }
    [letter] = await dead.all()
    assert (letter.kind, letter.consumer) == ("invalid", "persister")
    assert letter.subject == said["invalid"]["subject"]
    assert letter.stream_seq == said["invalid"]["seq"]
    assert letter.message_id == said["invalid"]["id"]
    assert (
        letter.reason
        == "data of media_file.imported: Expected `int | null`, got `str` - at `$.size`"
    )
    assert (await dead.get(letter.number))[1] == said["invalid"]["body"].encode()


def test_the_lock_file_names_no_registry() -> None:
    lock = msgspec.json.decode((HERE / "package-lock.json").read_bytes())
    for package in lock["packages"].values():
        assert "resolved" not in package
    installed = [package for name, package in lock["packages"].items() if name]
    assert installed
    assert all("integrity" in package for package in installed)
