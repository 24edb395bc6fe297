"""An example of every event, made from its type, for documents and for tests."""

import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from schemas.envelope import Envelope
from schemas.events import Event
from schemas.identity import Actor, Resource

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
    "duration": 5400.0,
    "save_path": "/downloads/complete",
    "job_name": "library_scan",
    "duration_ms": 1843.5,
    "items_processed": 1204,
    "away_seconds": 95.2,
    "error_message": "no space left on device",
    "warning": "the client could not move the files",
}
"""A telling value for each field; one without an entry gets a plain value of its type."""


def _resource(event_class: type[Event], values: dict[str, Any]) -> Resource:
    """A download with a media item is about that, so that one filter shows an item's whole life."""
    about = event_class.type.partition(".")[0]
    if about == "download":
        return Resource("media_item", str(values["media_item_id"]))
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
    """An envelope with all that an event of this type may say."""
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
    """A value that fits a JSON Schema."""
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
