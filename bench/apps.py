"""Measure the import of an application's past: rows of a history until they are stored events.

    python -m bench.apps [--rows 200000]

A stand-in for Sonarr has a history of years. `mediabus service` reads and publishes it, `mediabus
persist` stores it, each in its own process. Every second row grabs a release, and the next one
imports it: two rows become three events.
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
from tests.support.apps import Sonarr
from tests.support.apps.releases import grabbed_data, imported_data

START: Final = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
BETWEEN: Final = datetime.timedelta(minutes=10)
"""Between two rows: 200,000 rows are almost four years."""

WITHIN: Final = 1_800.0
"""Seconds for the whole import."""

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
    parser.add_argument("--rows", type=int, default=200_000)
    section = uvloop.run(measure(parser.parse_args().rows))
    show(Console(width=None if sys.stdout.isatty() else 120), section)


if __name__ == "__main__":
    main()
