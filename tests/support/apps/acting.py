"""Let a stand-in do everything that its application does, and record what it says."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp

from tests.support.apps import Lidarr, Prowlarr, Radarr, Seerr, Sonarr
from tests.support.apps.receiver import receiver

HASH = "ABCDEF0123456789ABCDEF0123456789ABCDEF01"
OTHER = "B" * 40
DELETE_REASONS = ("missingFromDisk", "manual", "upgrade", "noLinkedEpisodes", "manualOverride")

APPS: dict[str, type[Any]] = {
    "sonarr": Sonarr,
    "radarr": Radarr,
    "lidarr": Lidarr,
    "prowlarr": Prowlarr,
    "seerr": Seerr,
}


async def _sonarr(sonarr: Sonarr) -> None:
    series = await sonarr.add_series("Severance", tvdbId=371980)
    await sonarr.grab(series, [1, 2], HASH)
    await sonarr.import_files(series, [1, 2], HASH)
    await sonarr.grab(series, [1], OTHER, trigger="InteractiveSearch")
    await sonarr.import_files(series, [1], OTHER, upgrade=True)
    await sonarr.rename(series, 1, "new.mkv")
    for reason in DELETE_REASONS:
        await sonarr.delete_file(series, 1, reason)
    sonarr.fail(series, [2], "SABnzbd_nzo_1", "no articles")
    await sonarr.require_interaction(series, [1], HASH, ["sample"])
    await sonarr.degrade("IndexerStatusCheck", "All indexers are unavailable", "error")
    await sonarr.recover("IndexerStatusCheck")
    await sonarr.update("4.0.16.2946")
    await sonarr.degrade("RootFolderCheck", "Missing root folder")


async def _radarr(radarr: Radarr) -> None:
    movie = await radarr.add_movie("Dune", tmdbId=438631)
    await radarr.grab(movie, HASH)
    await radarr.import_file(movie, HASH)
    await radarr.grab(movie, OTHER, trigger="UserInvokedSearch")
    await radarr.import_file(movie, OTHER, upgrade=True)
    await radarr.rename(movie, "new.mkv")
    for reason in DELETE_REASONS:
        await radarr.delete_file(movie, reason)
    radarr.fail(movie, "SABnzbd_nzo_1", "no articles")
    await radarr.require_interaction(movie, HASH, ["sample", "sample"])
    await radarr.degrade("RootFolderCheck", "Missing root folder")
    await radarr.recover("RootFolderCheck")
    await radarr.update("5.29.0.1")
    await radarr.degrade("IndexerStatusCheck", "All indexers are unavailable", "error")


async def _lidarr(lidarr: Lidarr) -> None:
    artist = await lidarr.add_artist("Boards of Canada", ["Geogaddi"])
    album = lidarr.album(artist)
    await lidarr.grab(album, HASH)
    await lidarr.import_album(album, HASH)
    await lidarr.import_album(album, HASH, upgrade=True)
    await lidarr.fail_import(album, HASH, "missing tracks")
    await lidarr.fail_download(album, HASH, "no peers")
    await lidarr.rename(album)
    await lidarr.retag(album)
    await lidarr.degrade("ImportMechanismCheck", "disabled")
    await lidarr.recover("ImportMechanismCheck")
    await lidarr.update("2.15.0.1")
    await lidarr.degrade("RootFolderCheck", "Missing root folder")


async def _prowlarr(prowlarr: Prowlarr) -> None:
    await prowlarr.grab("Severance.S01E01")
    await prowlarr.grab("Dune.2021", manual=True)
    prowlarr.search("Severance")
    await prowlarr.degrade("IndexerStatusCheck", "unavailable")
    await prowlarr.recover("IndexerStatusCheck")
    await prowlarr.update("2.1.0.1")
    await prowlarr.degrade("IndexerStatusCheck", "unavailable")


async def _seerr(seerr: Seerr) -> None:
    request = await seerr.request("Dune")
    for kind in ("AUTO_REQUESTED", "AUTO_APPROVED", "APPROVED", "DECLINED", "AVAILABLE", "FAILED"):
        await seerr.tell(f"MEDIA_{kind}", request, message="text")
    issue = {"issue_id": "4", "reportedBy_username": "bob", "issue_type": "VIDEO"}
    comment = {"comment_message": "still broken", "commentedBy_username": "eve"}
    for kind in ("CREATED", "COMMENT", "RESOLVED", "REOPENED"):
        values = issue | (comment if kind == "COMMENT" else {})
        await seerr.tell(f"ISSUE_{kind}", {"subject": "Dune", **values}, message="text")


ACTS: dict[str, Callable[[Any], Awaitable[None]]] = {
    "sonarr": _sonarr,
    "radarr": _radarr,
    "lidarr": _lidarr,
    "prowlarr": _prowlarr,
    "seerr": _seerr,
}
"""Everything but the removal of what was added."""


async def remove_everything(app: Any) -> None:
    """Remove what the application has."""
    match app:
        case Sonarr():
            await app.delete_series(app.series[1], files=True)
        case Radarr():
            await app.delete_movie(app.movies[1])
        case Lidarr():
            await app.delete_album(app.albums[1])
            await app.delete_artist(app.artists[1])


def listen(app: Any, url: str, **fields: Any) -> None:
    """Register a webhook for everything."""
    if isinstance(app, Seerr):
        app.add_webhook(url)
    else:
        app.connections.add(url, **fields)


class Recorded(NamedTuple):
    """Answers of the API by path, without the query, and the bodies of webhooks."""

    answers: dict[str, Any]
    bodies: list[dict[str, Any]]


@contextlib.asynccontextmanager
async def acted(kind: str, url: str, **fields: Any) -> AsyncIterator[Any]:
    """Run a stand-in that has done everything, and has sent its webhooks to ``url``."""
    async with APPS[kind].running() as app:
        listen(app, url, **fields)
        await ACTS[kind](app)
        yield app


async def recorded(kind: str) -> Recorded:
    """Record what an application says."""
    async with receiver() as received, acted(kind, received.url) as app:
        answers = {path.partition("?")[0]: await _get(app, path) for path in _paths(kind)}
        await remove_everything(app)
    return Recorded(answers, received.bodies)


def _paths(kind: str) -> list[str]:
    api = "/api/v3" if kind in {"sonarr", "radarr"} else "/api/v1"
    if kind == "seerr":
        return [f"{api}/status", f"{api}/settings/notifications/webhook"]
    library = {"sonarr": [f"{api}/series"], "radarr": [f"{api}/movie"]}.get(kind, [])
    since = f"{api}/history/since?date=2020-01-01"
    page = f"{api}/history?page=1&pageSize=1000&sortDirection=ascending"
    checks = [f"{api}/system/status", f"{api}/health"]
    return [*checks, since, page, f"{api}/notification", f"{api}/notification/schema", *library]


async def _get(app: Any, path: str) -> Any:
    headers = {"X-Api-Key": app.api_key}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{app.url}{path}") as response,
    ):
        assert response.status == 200, path
        return await response.json()
