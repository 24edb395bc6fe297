"""Create an example of each event type, for documents and tests."""

import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor, Resource

MEDIA_ITEM: Final = UUID("0198c1f2-7a3b-7c4d-8e5f-6a7b8c9d0e1f")
DOWNLOAD: Final = UUID("0198c1f2-9b1c-7a2d-b3e4-5f60718293a4")
EVENT: Final = UUID("0198c1f3-0d4e-7f60-9a1b-2c3d4e5f6071")
TIME: Final = datetime.datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=datetime.UTC)

SAMPLES: Final[dict[str, Any]] = {
    "title": "Dune",
    "media_title": "Dune",
    "media_type": "movie",
    "year": 2021,
    "tmdb_id": 438631,
    "imdb_id": "tt1160419",
    "changes": {"year": [2020, 2021]},
    "episode_count": 10,
    "path": "/media/movies/Dune (2021)/Dune.mkv",
    "resolution": "2160p",
    "codec": "hevc",
    "size": 24_696_061_952,
    "download_id": DOWNLOAD,
    "media_item_id": MEDIA_ITEM,
    "client": "home",
    "kind": "qbittorrent",
    "client_item": "c9e15763f722f23e98a29decdfae341b98d53056",
    "indexer": "linuxtracker",
    "progress": 0.42,
    "state": "paused",
    "duration": 5400.0,
    "save_path": "/downloads/complete",
    "job_name": "library_scan",
    "duration_ms": 1843.5,
    "items_processed": 1204,
    "away_seconds": 95.2,
    "error_message": "no space left on device",
    "warning": "the client could not move the files",
    "target": "phone",
    "event_ids": [str(DOWNLOAD)],
    "attempts": 2,
    "answer": "HTTP 200",
    "failures": 3,
    "retry_in_seconds": 300.0,
    "app": "sonarr",
    "check": "IndexerStatusCheck",
    "message": "All indexers are unavailable due to failures",
    "level": "error",
    "wiki_url": "https://wiki.servarr.com/sonarr/system#indexers-are-unavailable-due-to-failures",
    "new_version": "4.0.16.2946",
    "previous_version": "4.0.15.2941",
    "event_type": "Unheard",
    "body": {"eventType": "Unheard", "instanceName": "Sonarr"},
    "omitted_bytes": 999_999,
    "requested_by": "alice",
    "request_id": "17",
    "is_4k": True,
    "issue_id": "4",
    "reported_by": "alice",
    "comment": "the second disc is missing",
    "commented_by": "bob",
    "reasons": ["No files found are eligible for import"],
    "quality": "WEBDL-1080p",
    "tvdb_id": 371980,
    "files_deleted": True,
    "files": 24,
    "items": 24,
    "destination": "/media/movies/Dune (2021)",
    "release_group": "NTb",
    "upgrade": True,
    "replaced": ["/media/movies/Dune (2021)/Dune.2021.1080p.mkv"],
    "source_path": "/downloads/complete/Dune.2021.2160p.WEB-DL.mkv",
    "previous_path": "/media/movies/Dune (2021)/Dune.2021.mkv",
}
"""Example values by field. A field without an entry gets a generic value of its type."""


def _resource(event_class: type[Event], values: dict[str, Any]) -> Resource:
    """Return the resource. For a download it is the media item, so one filter matches both."""
    about = event_class.type.partition(".")[0]
    if about in {"download", "release"}:
        return Resource("media_item", str(values["media_item_id"]))
    if about in {"health", "application", "app"}:
        return Resource("app", values["app"])
    if about in {"request", "issue"}:
        return Resource(about, f"{values['app']}/{values[f'{about}_id']}")
    if about == "notification":
        return Resource("target", values["target"])
    ids = {"media_item": MEDIA_ITEM, "download_client": values.get("client")}
    return Resource(about, str(ids.get(about) or DOWNLOAD))


PLAIN: Final[dict[str, Any]] = {
    "string": "text",
    "integer": 1,
    "number": 0.5,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


def example(event_class: type[Event]) -> Envelope:
    """Create an envelope in which every field of the event type is set."""
    fields = msgspec.structs.fields(event_class)
    values = {
        field.name: SAMPLES.get(field.name, _plain(msgspec.json.schema(field.type)))
        for field in fields
    }
    event = msgspec.convert(values, event_class)
    by_user = event_class.category == "media"
    actor = Actor("user", "42") if by_user else Actor("system", "download_monitor")
    return msgspec.structs.replace(
        Envelope.of(event, actor=actor, resource=_resource(event_class, values)),
        id=EVENT,
        time=TIME,
    )


def _plain(schema: dict[str, Any]) -> object:
    """Return a value that fits a JSON Schema."""
    match schema:
        case {"anyOf": [first, *_]}:
            return _plain(first)
        case {"enum": [first, *_]}:
            return first
        case {"format": "uuid"}:
            return DOWNLOAD
        case {"format": "date-time"}:
            return TIME
        case {"type": kind}:
            return PLAIN[kind]
    return None
