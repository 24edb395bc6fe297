"""Releases as webhooks and history rows describe them."""

from typing import Any

TRIGGERS = ("Rss", "Search", "UserInvokedSearch", "InteractiveSearch", "ReleasePush")
"""``releaseSource`` of a grabbed row: who asked for the release."""

INDEXER = "The Indexer"
SIZE = 1_500_000_000
GROUP = "NTb"

CUSTOM_FORMATS: dict[str, Any] = {"customFormats": [], "customFormatScore": 0}


def grabbed_release(title: str) -> dict[str, Any]:
    """Return the release of a Grab."""
    return {
        "quality": "WEBDL-1080p",
        "qualityVersion": 1,
        "releaseGroup": GROUP,
        "releaseTitle": title,
        "indexer": INDEXER,
        "size": SIZE,
        "customFormatScore": 0,
        "customFormats": [],
        "languages": [{"id": 1, "name": "English"}],
        "indexerFlags": [],
    }


def imported_release(title: str) -> dict[str, Any]:
    """Return the release of a Download."""
    return {
        "releaseTitle": title,
        "indexer": INDEXER,
        "size": SIZE,
        "indexerFlags": [],
        "releaseType": "singleEpisode",
    }


def client_fields(download_id: str | None, client: str = "qBittorrent") -> dict[str, Any]:
    """Return what names a download. ``download_id`` is an upper-case infohash or an nzo_id."""
    return {
        "downloadClient": client,
        "downloadClientType": client,
        "downloadId": download_id,
    }


def grabbed_data(trigger: str, download_id: str, client: str = "qBittorrent") -> dict[str, Any]:
    """Return the data of a grabbed row."""
    return {
        "indexer": INDEXER,
        "releaseGroup": GROUP,
        "age": 0,
        "size": SIZE,
        "protocol": 2,
        "downloadClient": client,
        "downloadClientName": client,
        "customFormatScore": 0,
        "releaseSource": trigger,
        "torrentInfoHash": download_id,
    }


def imported_data(file_id: int, source: str, destination: str) -> dict[str, Any]:
    """Return the data of an import row."""
    return {
        "fileId": file_id,
        "droppedPath": source,
        "importedPath": destination,
        "downloadClient": "qBittorrent",
        "downloadClientName": "qBittorrent",
        "releaseGroup": GROUP,
        "size": SIZE,
    }


def blocked_fields(
    title: str, download_id: str, reasons: list[str], client: str = "qBittorrent"
) -> dict[str, Any]:
    """Return what ManualInteractionRequired says of a download. Its status is TitleCase."""
    return {
        "downloadInfo": {
            "quality": "WEBDL-1080p",
            "qualityVersion": 1,
            "title": title,
            "size": SIZE,
        },
        **client_fields(download_id, client),
        "downloadStatus": "Warning",
        "downloadStatusMessages": [{"title": title, "messages": reasons}],
        "customFormatInfo": CUSTOM_FORMATS,
        "release": imported_release(title),
    }


def media_info() -> dict[str, Any]:
    """Return what a file contains."""
    return {
        "audioChannels": 5.1,
        "audioCodec": "EAC3",
        "audioLanguages": ["eng"],
        "height": 1080,
        "width": 1920,
        "subtitles": [],
        "videoCodec": "h264",
        "videoDynamicRange": "",
        "videoDynamicRangeType": "",
    }
