"""Measure the cost of watching a download client: CPU, memory, and time to the bus.

    python -m bench.monitor [--seconds 30] [--scripted 10000] [--active 200] [--real 2000]

The scripted client has many torrents, some of which change at every poll. The real ones,
qBittorrent and Transmission if they are installed, have paused torrents of a few bytes.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator
from typing import ClassVar, NamedTuple

import bencode2
import msgspec
import psutil

from bench.servers import stack
from chaos.network import Link
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import MonitorSettings
from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase, Protocol
from mediabus.schemas.subjects import DOWNLOAD_STATUS_BUCKET
from mediabus.service.clients.port import (
    ClientRefused,
    Delta,
    DownloadClient,
    Observation,
    Snapshot,
    Source,
    TorrentFile,
)
from mediabus.service.clients.settings import ClientSettings
from mediabus.service.monitor.watch.watcher import Watcher
from tests.support import daemons, torrents
from tests.support.eventually import eventually

ADDED_AT_ONCE = 20
LATER_POLLS = 10
NOTHING_YET = bencode2.bencode({b"paused": 1, b"progress": {b"blocks": b"none"}})
NOWHERE = "http://127.0.0.1:9/announce"


class QBittorrent(daemons.QBittorrent):
    """A qBittorrent that starts no added torrent, and accepts requests through a proxy."""

    recent = 0.0

    def configure(self) -> None:
        super().configure()
        (path,) = self.home.rglob("qBittorrent.conf")
        paused = "Session\\AddTorrentPaused=true\nSession\\AddTorrentStopped=true\n"
        reached = "WebUI\\HostHeaderValidation=false\n"
        text = path.read_text().replace("[BitTorrent]\n", f"[BitTorrent]\n{paused}")
        path.write_text(text.replace("[Preferences]\n", f"[Preferences]\n{reached}"))

    async def fill(self, count: int) -> None:
        """Add the torrents, several at a time."""
        room = asyncio.Semaphore(ADDED_AT_ONCE)

        async def add(number: int) -> None:
            async with room:
                await client.add(TorrentFile(paused(number).content), title="", category=None)

        async with self.settings().connect() as client:
            await asyncio.gather(*(add(number) for number in range(count)))


class Transmission(daemons.Transmission):
    """A Transmission that neither starts nor checks torrents that it finds on its disk.

    A check would take a tenth of a second for each.
    """

    recent = 60.0
    """Seconds for which every poll reports torrents that it has just found."""

    def configure(self) -> None:
        super().configure()
        path = self.home / "settings.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"start-added-torrents": False}))

    async def fill(self, count: int) -> None:
        """Write the torrents to the folder in which it stores its own."""
        self.stop()
        for number in range(count):
            shared = paused(number)
            name = f"{shared.name}.{shared.infohash[:16]}"
            (self.home / "torrents" / f"{name}.torrent").write_bytes(shared.content)
            (self.home / "resume" / f"{name}.resume").write_bytes(NOTHING_YET)
        self.start()


def paused(number: int) -> torrents.Shared:
    """Return a torrent of a few bytes."""
    return torrents.make_torrent(f"paused {number}", b"x" * 64, NOWHERE)


PROGRAMS: dict[str, type[QBittorrent | Transmission]] = {
    "qbittorrent": QBittorrent,
    "transmission": Transmission,
}


class Figures(NamedTuple):
    """The number of downloads, and the seconds until the bucket had them all.

    From then on: CPU in percent of a core, memory in MB, writes per second, and bytes written per
    poll.
    """

    shown: int
    first_poll: float
    cpu: float
    memory: float
    writes: float
    sent_bytes: float


class Asked(NamedTuple):
    """Bytes between a client and its watcher, both ways: in the first poll and in a later one."""

    first: int
    later: float


class Scripted:
    """A client whose torrents progress with the clock."""

    def __init__(self, count: int, active: int) -> None:
        self._count = count
        self._active = active
        self._looks = 0

    async def version(self) -> str:
        return "1.0"

    async def observe(self) -> Observation:
        self._looks += 1
        if self._looks == 1:
            return Snapshot([self._status(number) for number in range(self._count)])
        return Delta([self._status(number) for number in range(self._active)], [])

    def _status(self, number: int) -> DownloadStatus:
        moves = number < self._active
        return DownloadStatus(
            client=ClientName("scripted"),
            item=ItemId(f"{number:040x}"),
            title=f"Some.Release.With.A.Long.Name.S01E{number:05}.1080p.WEB-DL",
            phase=Phase.DOWNLOADING if moves else Phase.COMPLETED,
            progress=min(self._looks / 10_000, 1.0) if moves else 1.0,
            size=4_000_000_000,
            downloaded=self._looks * 400_000,
            download_rate=1_000_000 + self._looks if moves else 0,
            save_path="/downloads",
        )

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        raise ClientRefused("a script takes no orders")

    async def pause(self, item: ItemId) -> None:
        raise ClientRefused("a script takes no orders")

    async def resume(self, item: ItemId) -> None:
        raise ClientRefused("a script takes no orders")

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        raise ClientRefused("a script takes no orders")


class ScriptedSettings(ClientSettings, frozen=True, kw_only=True, tag="scripted"):
    """The settings of a scripted client with ``count`` torrents, of which ``active`` change."""

    protocol: ClassVar[Protocol] = "torrent"
    count: int
    active: int

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        """Open a session that starts the script from its beginning."""
        yield Scripted(self.count, self.active)


async def watch(bus: Bus, settings: ClientSettings, seconds: float) -> Figures:
    """Watch a client in this process, which does nothing else."""

    async def nothing(_: ClientName) -> set[ItemId]:
        return set()

    watcher = Watcher(bus, settings, MonitorSettings(), nothing)
    watching = asyncio.create_task(watcher.run())
    started = time.perf_counter()
    written = await _written(bus, settings.name)
    while written == 0 or await _written(bus, settings.name) != written:
        written = await _written(bus, settings.name)
        await asyncio.sleep(0.25)
    first_poll = time.perf_counter() - started
    before, cpu, began = await _sequence(bus), time.process_time(), time.perf_counter()
    sent = bus.nc.stats["out_bytes"]
    await asyncio.sleep(seconds)
    share = (time.process_time() - cpu) / (time.perf_counter() - began) * 100
    sent_bytes = (bus.nc.stats["out_bytes"] - sent) / (seconds / settings.poll_active)
    writes = (await _sequence(bus) - before) / seconds
    watching.cancel()
    await asyncio.wait([watching])
    memory = psutil.Process().memory_info().rss / 1e6
    return Figures(written, first_poll, share, memory, writes, sent_bytes)


async def _written(bus: Bus, client: str) -> int:
    """Return how many downloads of a client the bucket has."""
    subject = f"$KV.{DOWNLOAD_STATUS_BUCKET}.{client}.*"
    info = await bus.js.stream_info(f"KV_{DOWNLOAD_STATUS_BUCKET}", subjects_filter=subject)
    return len(info.state.subjects or {})


async def _sequence(bus: Bus) -> int:
    """Return the sequence number of the last write to the bucket."""
    return (await bus.js.stream_info(f"KV_{DOWNLOAD_STATUS_BUCKET}")).state.last_seq


async def scripted(count: int, active: int, seconds: float) -> Figures:
    """Measure a client with many torrents that change with the clock."""
    async with stack() as it:
        settings = ScriptedSettings(name="scripted", url="", count=count, active=active)
        return await watch(it.bus, settings, seconds)


async def real(kind: str, count: int, seconds: float) -> tuple[Figures, Asked]:
    """Measure a real client with paused torrents of a few bytes."""
    with PROGRAMS[kind].started() as daemon:
        await daemon.fill(count)
        await eventually(lambda: rests(daemon, count), within=120, every=1)
        async with stack() as it:
            figures = await watch(it.bus, daemon.settings(), seconds)
        return figures, await asked(daemon)


async def asked(daemon: QBittorrent | Transmission) -> Asked:
    """Count the bytes of polls with a proxy in between."""
    await asyncio.sleep(daemon.recent)
    link = Link(daemon.port)
    url = daemon.url.replace(str(daemon.port), str(link.port))
    async with link.working():
        async with msgspec.structs.replace(daemon.settings(), url=url).connect() as client:
            await client.observe()
            first = link.carried
            for _ in range(LATER_POLLS):
                await client.observe()
        return Asked(first, (link.carried - first) / LATER_POLLS)


async def rests(daemon: daemons.Daemon, count: int) -> bool:
    """Return whether the client has ``count`` torrents, all of them paused."""
    async with daemon.settings().connect() as client:
        seen = await client.observe()
    assert isinstance(seen, Snapshot)
    return [status.phase for status in seen.items] == [Phase.PAUSED] * count


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--scripted", type=int, default=10_000)
    parser.add_argument("--active", type=int, default=200)
    parser.add_argument("--real", type=int, default=2_000)
    arguments = parser.parse_args()
    print(
        "client                    shown first poll s  CPU %  RSS MB  writes/s  bytes sent a poll"
    )
    name = f"scripted, {arguments.active} active"
    _print(name, asyncio.run(scripted(arguments.scripted, arguments.active, arguments.seconds)))
    for kind, daemon in PROGRAMS.items():
        if shutil.which(daemon.program):
            figures, wire = asyncio.run(real(kind, arguments.real, arguments.seconds))
            _print(f"{kind}, paused", figures)
            print(f"{'':24} {wire.first:,} bytes in the first poll, {wire.later:,.0f} later")


def _print(name: str, figures: Figures) -> None:
    shown, first_poll, cpu, memory, writes, sent_bytes = figures
    print(
        f"{name:24} {shown:>6} {first_poll:>12.1f} {cpu:>6.1f} {memory:>7.0f} {writes:>9.1f}"
        f" {sent_bytes:>18,.0f}"
    )


if __name__ == "__main__":
    main()
