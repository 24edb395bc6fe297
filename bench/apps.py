"""Measure the first contact with applications: their past, and their libraries.

    python -m bench.apps [--rows 200000] [--items 10000]

A stand-in for Sonarr has a history of years. `mediabus service` reads and publishes it, `mediabus
persist` stores it, each in its own process. Every second row grabs a release, and the next one
imports it: two rows become three events.

Two stand-ins for Radarr then have the same movies. Each movie becomes one media item.
"""

import argparse
import datetime
import sys
import time
from pathlib import Path
from typing import Final

import psutil
import uvloop
from rich.console import Console

from bench.report import Section, show
from bench.servers import Failed, Stack, mediabus, process, stack, until
from tests.support.apps import Radarr, Sonarr
from tests.support.apps.releases import grabbed_data, imported_data

START: Final = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
BETWEEN: Final = datetime.timedelta(minutes=10)
"""Between two rows: 200,000 rows are almost four years."""

WITHIN: Final = 1_800.0
"""Seconds for the whole import."""

LARGE: Final = 10_000
"""Movies of the libraries for which the limits hold."""

LIBRARY_WITHIN: Final = 60.0
"""Seconds in which the libraries must be media items, with their events stored."""

MAX_MEGABYTES: Final = 400.0
"""Memory of the service, at most, while it reads two libraries of 10,000 movies."""

RADARR: Final = """
[[apps]]
name = "{name}"
kind = "radarr"
url = "{url}"
api_key = "{api_key}"
timeout = 60
"""

ITEMS: Final = """
SELECT (SELECT count(*) FROM media_items) AS items,
       (SELECT count(*) FROM media_sources WHERE media_item_id IS NOT NULL) AS sources,
       (SELECT count(*) FROM events WHERE type = 'media_item.added') AS added
"""

SETTINGS: Final = """
[[apps]]
name = "sonarr"
kind = "sonarr"
url = "{url}"
api_key = "{api_key}"
import_since = "2020-01-01"
"""


def fill(sonarr: Sonarr, rows: int) -> int:
    """Give the stand-in a history of so many rows. Return how many events they become."""
    series = sonarr.put_series("Severance", episodes=9)
    for number in range(rows // 2):
        download, title = f"{number:040X}", f"Severance.S01E01.{number}.1080p"
        path = f"/tv/Severance/{title}.mkv"
        kinds = {
            "grabbed": grabbed_data("Rss", download),
            "downloadFolderImported": imported_data(number, f"/downloads/{title}.mkv", path),
        }
        for place, (kind, data) in enumerate(kinds.items()):
            sonarr.record(
                kind,
                owner=series["id"],
                date=START + BETWEEN * (2 * number + place),
                seriesId=series["id"],
                episodeId=1,
                sourceTitle=title,
                downloadId=download,
                data=data,
            )
    return rows // 2 * 3


async def measure(rows: int) -> Section:
    """Import ``rows`` rows. Raises Failed if an event is missing, doubled or out of order."""
    section = Section("import of the past of an application")
    async with stack() as servers, Sonarr.running() as sonarr:
        wanted = fill(sonarr, rows)
        file = servers.data_dir / "mediabus.toml"
        file.write_text(SETTINGS.format(url=sonarr.url, api_key=sonarr.api_key))
        began = time.perf_counter()
        async with (
            process(*_command(file, "service"), environment=servers.environment) as service,
            process(*_command(file, "persist"), environment=servers.environment),
        ):
            peaks = _Peaks(servers, service.pid, wanted)
            ended = await until(peaks.are_stored, every=0.5, within=WITHIN)
        await _check(servers, wanted)
    section.add("rows", "rows/s", rows / (ended - began))
    section.add("the whole import", "s", ended - began)
    section.add("most rows waiting in the outbox", "rows", peaks.waiting)
    section.add("most memory of the service", "MB", peaks.megabytes)
    section.note(f"{rows:,} rows of a stand-in for Sonarr became {wanted:,} events, once each.")
    return section


def _command(file: Path, command: str) -> tuple[str, ...]:
    return mediabus("--config", str(file), command)


class _Peaks:
    """Asks for progress, and remembers the largest outbox and memory."""

    def __init__(self, servers: Stack, pid: int, wanted: int) -> None:
        self.waiting, self.megabytes = 0.0, 0.0
        self._pool, self._service, self._wanted = servers.pool, psutil.Process(pid), wanted

    async def are_stored(self) -> bool:
        """Return whether all events of the history are stored."""
        waiting = await self._pool.fetchval("SELECT count(*) FROM outbox")
        self.waiting = max(self.waiting, float(waiting))
        self.megabytes = max(self.megabytes, self._service.memory_info().rss / 1e6)
        stored = await self._pool.fetchval(
            "SELECT count(*) FROM events WHERE source = 'mediabus/sonarr'"
            " AND type IN ('release.grabbed', 'media_file.imported', 'download.imported')"
        )
        return bool(stored >= self._wanted)


def stock(radarr: Radarr, items: int) -> None:
    """Give the stand-in so many movies, as large as Radarr lists them (about 8 kB each)."""
    for number in range(1, items + 1):
        radarr.put_movie(
            f"Movie {number}",
            year=2000,
            tmdbId=number,
            imdbId=f"tt{number:07}",
            overview="x" * 1_000,
            images=[{"coverType": "poster", "remoteUrl": "https://image/" + "y" * 80}] * 20,
            movieFile={"path": "/movies/" + "z" * 200, "mediaInfo": {"audio": "w" * 2_000}},
            alternateTitles=[{"title": f"Alternate {other}", "id": other} for other in range(40)],
        )


async def measure_library(items: int) -> Section:
    """Read two libraries with the same movies. Raises Failed if they do not become one item each.

    The time is that of reading and storing, from the start of the processes.
    """
    section = Section("libraries at the first contact")
    async with (
        stack() as servers,
        Radarr.running(instance_name="one") as one,
        Radarr.running(instance_name="two") as two,
    ):
        apps = (one, two)
        for app in apps:
            stock(app, items)
        file = servers.data_dir / "mediabus.toml"
        tables = [
            RADARR.format(name=app.instance_name, url=app.url, api_key=app.api_key) for app in apps
        ]
        file.write_text("".join(tables))
        began = time.perf_counter()
        async with (
            process(*_command(file, "service"), environment=servers.environment) as service,
            process(*_command(file, "persist"), environment=servers.environment),
        ):
            progress = _Libraries(servers, service.pid, items)
            ended = await until(progress.are_stored, every=0.2, within=WITHIN)
        await progress.check(ended - began)
    section.add("both libraries", "s", ended - began)
    section.add("most memory of the service", "MB", progress.megabytes)
    section.note(f"Two stand-ins for Radarr with the same {items:,} movies became {items:,} items.")
    return section


class _Libraries:
    """Asks for progress, and remembers the largest memory."""

    def __init__(self, servers: Stack, pid: int, items: int) -> None:
        self.megabytes = 0.0
        self._pool, self._service, self._items = servers.pool, psutil.Process(pid), items

    async def are_stored(self) -> bool:
        """Return whether both applications know all items, and their events are stored."""
        self.megabytes = max(self.megabytes, self._service.memory_info().rss / 1e6)
        row = (await self._pool.fetch(ITEMS))[0]
        return bool(row["sources"] >= 2 * self._items and row["added"] >= self._items)

    async def check(self, seconds: float) -> None:
        """Raise Failed if there is an item too many, or if 10,000 exceeded a limit."""
        row = (await self._pool.fetch(ITEMS))[0]
        if (row["items"], row["added"]) != (self._items, self._items):
            raise Failed(f"expected {self._items} items, added once each, got {dict(row)}")
        if self._items != LARGE:
            return
        if seconds > LIBRARY_WITHIN:
            raise Failed(f"took {seconds:.0f} s, at most {LIBRARY_WITHIN:.0f} s are allowed")
        if self.megabytes > MAX_MEGABYTES:
            raise Failed(f"took {self.megabytes:.0f} MB, at most {MAX_MEGABYTES:.0f} are allowed")


async def _check(servers: Stack, wanted: int) -> None:
    row = await servers.pool.fetchrow(
        "SELECT count(*) AS events, count(DISTINCT id) AS ids,"
        " count(*) FILTER (WHERE occurred_at < previous) AS misordered FROM ("
        "  SELECT id, occurred_at, lag(occurred_at) OVER (ORDER BY stream_seq) AS previous"
        "  FROM events WHERE source = 'mediabus/sonarr' AND type = 'release.grabbed') AS grabbed"
    )
    if row is None or (row["events"], row["ids"], row["misordered"]) != (wanted // 3,) * 2 + (0,):
        raise Failed(f"expected {wanted // 3} grabs, once each and in order, got {row}")


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000, help="0 leaves the history out")
    parser.add_argument("--items", type=int, default=LARGE, help="0 leaves the libraries out")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    if arguments.items:
        show(console, uvloop.run(measure_library(arguments.items)))
    if arguments.rows:
        show(console, uvloop.run(measure(arguments.rows)))


if __name__ == "__main__":
    main()
