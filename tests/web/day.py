"""A day in a library: real downloads in two real clients, an outage, failures, and their events."""

import base64
import contextlib
import dataclasses
import datetime
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import msgspec

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.schemas import codec, events
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.schemas.subjects import subject_of
from mediabus.service.outbox.publish import Outgoing, publish_all
from tests.support import daemons, torrents
from tests.support.eventually import eventually
from tests.support.library import Library, with_clients

ANNA: Final = Actor("user", "anna")
BEN: Final = Actor("user", "ben")
MONITOR: Final = Actor("system", "download_monitor")
NIGHTLY: Final = Actor("job", "library_scan")

FILMS: Final = (
    ("Big Buck Bunny", 2008, 10378),
    ("Sintel", 2010, 45745),
    ("Tears of Steel", 2012, 133701),
    ("Night of the Living Dead", 1968, 10331),
    ("Metropolis", 1927, 19),
    ("Cosmos Laundromat", 2015, 358332),
)
"""Films in the public domain or under a free license, with their years and TMDB ids."""

DOWNLOADS: Final = (
    ("Sintel", "Sintel.2010.2160p.WEB-DL", 1, 0, "nas"),
    ("Night of the Living Dead", "Night.of.the.Living.Dead.1968.1080p", 20, 60_000, "home"),
    ("Metropolis", "Metropolis.1927.Restored.1080p", 40, 70_000, "home"),
    ("Tears of Steel", "Tears.of.Steel.2012.2160p", 30, 80_000, "nas"),
    ("Big Buck Bunny", "Big.Buck.Bunny.2008.1080p", 60, 90_000, "home"),
)
"""Films with the name of the release, its size in MB, its rate in bytes/s, and the client."""

MEGABYTE: Final = 1_000_000


@dataclasses.dataclass
class Day:
    """What the day left behind: the ids of films and downloads by title."""

    user: Library
    bus: Bus
    films: dict[str, str] = dataclasses.field(default_factory=dict)
    downloads: dict[str, str] = dataclasses.field(default_factory=dict)

    async def add_films(self) -> None:
        """Let two people add films."""
        for number, (title, year, tmdb_id) in enumerate(FILMS):
            wanted = {"type": "movie", "title": title, "year": year, "tmdb_id": tmdb_id}
            item = await self.user.ask("media.create", wanted, actor=(ANNA, BEN)[number % 2])
            self.films[title] = item["id"]

    async def download(self, title: str, shared: torrents.Shared, client: str) -> str:
        """Let a person start a download of a film."""
        wanted = {
            "title": shared.name,
            "torrent": base64.b64encode(shared.content).decode(),
            "client": client,
            "indexer": "archive.org",
            "category": "movies",
            **({"media_item_id": self.films[title]} if title in self.films else {}),
        }
        started = await self.user.ask("downloads.initiate", wanted, actor=ANNA)
        self.downloads[title] = started["id"]
        return str(started["id"])

    async def state(self, title: str, *wanted: str) -> None:
        """Wait until a download has one of these states."""

        async def has_it() -> bool:
            found = await self.user.ask("downloads.get", {"id": self.downloads[title]})
            return found["state"] in wanted

        await eventually(has_it, within=60)

    async def progressed(self, title: str) -> None:
        """Wait until a download has received its first bytes."""

        async def has_some() -> bool:
            found = await self.user.ask("downloads.get", {"id": self.downloads[title]})
            return bool((found["status"] or {}).get("progress", 0) > 0.05)

        await eventually(has_some, within=60)


@contextlib.contextmanager
def two_clients() -> Iterator[tuple[daemons.Daemon, daemons.Daemon]]:
    """Run qBittorrent and Transmission."""
    with daemons.QBittorrent.started() as first, daemons.Transmission.started() as second:
        yield first, second


def settings_of(settings: Settings, clients: tuple[daemons.Daemon, daemons.Daemon]) -> Settings:
    """Return settings with both clients, polled often, in which a stall shows within seconds."""
    first, second = clients
    return with_clients(
        settings, first.settings(name="home"), second.settings(name="nas"), stalled_after=3.0
    )


async def live_through(
    day: Day, swarm: torrents.Swarm, clients: tuple[daemons.Daemon, daemons.Daemon]
) -> None:
    """Make the day: its events of the past hours first, then what happens now."""
    await publish_past(day.bus)
    await day.add_films()
    await _download_films(day, swarm)
    await _fail(day)
    before = (await day.user.types("nas")).count("download_client.unreachable")
    clients[1].kill()

    async def is_reported() -> bool:
        types = await day.user.types("nas")
        return types.count("download_client.unreachable") > before

    await eventually(is_reported, within=60)


async def _download_films(day: Day, swarm: torrents.Swarm) -> None:
    shares = {}
    for title, name, size, rate, client in DOWNLOADS:
        shares[title] = swarm.share(name, size=size * MEGABYTE, rate=rate)
        await day.download(title, shares[title], client)
    await day.state("Sintel", "completed")
    for title in ("Metropolis", "Big Buck Bunny", "Tears of Steel"):
        await day.progressed(title)
    wanted = {"id": day.downloads["Metropolis"]}
    await day.user.ask("downloads.pause", wanted, actor=BEN)
    swarm.abandon(shares["Night of the Living Dead"])
    await day.state("Night of the Living Dead", "stalled")


async def _fail(day: Day) -> None:
    """Leave two dead letters, and a download that failed."""
    await day.bus.js.publish("events.media.media_item.added.-", b"not a CloudEvent")
    await day.bus.js.publish("events.downloads.download.paused.-", b'{"specversion": "1.0"}')
    await day.user.pool.execute(FAILED, uuid7(), day.films["Cosmos Laundromat"])


FAILED: Final = """
INSERT INTO downloads (id, title, state, client, client_item, protocol, media_item_id, size, reason,
                       error_message)
VALUES ($1, 'Cosmos.Laundromat.2015.2160p', 'failed', 'home', 'gone', 'torrent', $2, 8400000000,
        'disk_full', 'Cosmos.Laundromat.2015.2160p: no space left on device')
"""


async def publish_past(bus: Bus) -> None:
    """Publish events of the last hours, as their publishers would have."""
    now = datetime.datetime.now(datetime.UTC)
    sent = []
    for number, (event, actor, resource, minutes) in enumerate(_past()):
        envelope = msgspec.structs.replace(
            Envelope.of(event, actor=actor, resource=resource),
            time=now - datetime.timedelta(minutes=minutes, seconds=number % 60),
        )
        sent.append(Outgoing(envelope.id, subject_of(envelope), codec.encode(envelope)))
    await publish_all(bus, sent)


def _past() -> Iterator[tuple[Event, Actor, Resource, float]]:
    """Yield events with their actor, resource, and the minutes since."""
    scan = Resource("job", "library_scan")
    for hour in range(24):
        done = events.JobExecuted(
            job_name="library_scan", duration_ms=1800 + 90 * hour, items_processed=1200 + hour
        )
        yield done, NIGHTLY, scan, 60 * hour + 7
    client = Resource("download_client", "nas")
    for number in range(14):
        away = events.DownloadClientUnreachable(
            client="nas", kind="transmission", reason="connection", error_message="refused"
        )
        yield away, MONITOR, client, 58 - 3.5 * number
    back = events.DownloadClientRecovered(client="nas", kind="transmission", away_seconds=2950)
    yield back, MONITOR, client, 8
    yield from _films_of_yesterday()


def _films_of_yesterday() -> Iterator[tuple[Event, Actor, Resource, float]]:
    for number, title in enumerate(("Nosferatu", "The General", "Sita Sings the Blues")):
        item, minutes = Resource("media_item", str(uuid7())), 1500 - 400 * number
        fields: dict[str, Any] = {
            "download_id": UUID(item.id),
            "title": f"{title.replace(' ', '.')}.1080p",
            "media_title": title,
            "client": "home",
            "size": 4_700_000_000 + number * 10**9,
        }
        yield (
            events.MediaItemAdded(title=title, media_type="movie", monitored=True, year=1922),
            ANNA,
            item,
            minutes,
        )
        yield events.DownloadInitiated(**fields), ANNA, item, minutes - 1
        if number == 1:
            yield events.DownloadStalled(**fields, progress=0.4), MONITOR, item, minutes - 20
            yield events.DownloadRecovered(**fields), MONITOR, item, minutes - 31
        if number == 2:
            yield events.DownloadPaused(**fields, progress=0.7), BEN, item, minutes - 12
            yield events.DownloadResumed(**fields), BEN, item, minutes - 90
        yield events.DownloadCompleted(**fields, duration=5400), MONITOR, item, minutes - 95
