"""Record what this version writes, for later versions to read.

Run `python -m tests.golden.make tests/golden/VERSION` once, when a version is released. Existing
files are never written again.
"""

import asyncio
import datetime
import importlib
import pkgutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

import mediabus.consumers
import mediabus.runtime
import mediabus.service
from mediabus.consumers.event_row import EventRow
from mediabus.consumers.persister.store import EventStore
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate, migrations
from mediabus.runtime.settings import DatabaseSettings
from mediabus.schemas import codec
from mediabus.schemas import dead_letter_headers as letter
from mediabus.schemas.docs.contracts import async_api
from mediabus.schemas.docs.examples import DOWNLOAD, EVENT, MEDIA_ITEM, TIME, example
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES
from mediabus.schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId, Phase
from mediabus.schemas.subjects import subject_of
from tests.support.history import rows
from tests.support.servers import postgres_server

STATUS: Final = DownloadStatus(
    client=ClientName("home"),
    item=ItemId("c9e15763f722f23e98a29decdfae341b98d53056"),
    title="Dune",
    phase=Phase.FAILED,
    progress=0.42,
    size=100,
    downloaded=42,
    uploaded=7,
    download_rate=1000,
    upload_rate=10,
    eta=60,
    idle_for=120,
    save_path="/downloads",
    category="movies",
    reason="disk_full",
    message="no space left on device",
    warning="the client could not move the files",
    client_state="error",
)
CLIENT: Final = ClientStatus(
    client=ClientName("home"),
    kind="qbittorrent",
    reachable=False,
    since=TIME,
    version="5.1.2",
    reason="authentication",
    message="wrong password",
)
ITEM: Final[dict[str, Any]] = {
    "id": MEDIA_ITEM,
    "type": "movie",
    "title": "Dune",
    "original_title": "Dune: Part One",
    "year": 2021,
    "tmdb_id": 438631,
    "imdb_id": "tt1160419",
    "metadata": {"genres": ["science fiction"]},
    "monitored": True,
}
GIVEN: Final[dict[str, Any]] = {name: value for name, value in ITEM.items() if name != "id"}
TIMES: Final = {"created_at": TIME, "updated_at": TIME}
DOWNLOADED: Final[dict[str, Any]] = {
    "id": DOWNLOAD,
    "title": "Dune",
    "state": "failed",
    "client": "home",
    "client_item": STATUS.item,
    "protocol": "torrent",
    "category": "movies",
    "indexer": "linuxtracker",
    "media_item_id": MEDIA_ITEM,
    "size": 100,
    "save_path": "/downloads",
    "reason": "disk_full",
    "error_message": "no space left on device",
    "completed_at": TIME,
    "status": STATUS,
    **TIMES,
}
HAPPENED: Final[dict[str, Any]] = {
    "id": EVENT,
    "time": TIME,
    "type": "job.executed",
    "category": "system",
    "severity": "info",
    "source": "mediabus/system",
    "actor_type": "job",
    "actor_id": "nightly",
    "resource_type": "job",
    "resource_id": "1",
    "correlation_id": "c",
    "causation_id": "d",
    "data": {"job_name": "scan"},
    "recorded_at": TIME,
}
FILTER: Final[dict[str, Any]] = {
    "category": "system",
    "type": "job.executed",
    "severity": "info",
    "actor_type": "job",
    "actor_id": "nightly",
    "resource_type": "job",
    "resource_id": "1",
    "since": TIME,
    "until": TIME,
}
MEDIA: Final = ITEM | TIMES
ASKED: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "media.create": (GIVEN, MEDIA),
    "media.update": (
        {name: value for name, value in ITEM.items() if name not in {"type", "monitored"}},
        MEDIA,
    ),
    "media.delete": ({"ids": [MEDIA_ITEM]}, {"ids": [MEDIA_ITEM]}),
    "media.set_monitored": (
        {"ids": [MEDIA_ITEM], "monitored": False},
        {"items": [MEDIA], "next": None},
    ),
    "media.get": ({"id": MEDIA_ITEM}, MEDIA),
    "media.list": (
        {"type": "movie", "monitored": True, "search": "du", "limit": 10, "after": MEDIA_ITEM},
        {"items": [MEDIA], "next": str(MEDIA_ITEM)},
    ),
    "downloads.initiate": (
        {
            "title": "Dune",
            "magnet": f"magnet:?xt=urn:btih:{STATUS.item}",
            "client": "home",
            "protocol": "torrent",
            "category": "movies",
            "indexer": "linuxtracker",
            "media_item_id": MEDIA_ITEM,
        },
        DOWNLOADED,
    ),
    "downloads.cancel": ({"id": DOWNLOAD, "delete_files": True}, DOWNLOADED),
    "downloads.pause": ({"id": DOWNLOAD}, DOWNLOADED),
    "downloads.resume": ({"id": DOWNLOAD}, DOWNLOADED),
    "downloads.get": ({"id": DOWNLOAD}, DOWNLOADED),
    "downloads.list": (
        {
            "state": "failed",
            "client": "home",
            "media_item_id": MEDIA_ITEM,
            "limit": 10,
            "after": DOWNLOAD,
        },
        {"items": [DOWNLOADED], "next": None},
    ),
    "history.list": (
        FILTER | {"limit": 10, "after": "AAYp"},
        {"items": [HAPPENED], "next": "AAYp"},
    ),
    "history.count": (FILTER, {"total": 1, "by_type": {"job.executed": 1}}),
    "history.get": ({"id": EVENT}, HAPPENED),
}
"""Requests and replies with all that they may say."""

HEADERS: Final = letter.addressed(
    {"Nats-Msg-Id": str(EVENT), "Content-Type": codec.CONTENT_TYPE, "X-Mine": "kept"},
    consumer="persister",
    kind="rejected",
    reason="PostgreSQL refuses it",
    subject="events.system.job.executed.1",
    stream="EVENTS",
    stream_seq=7,
    deliveries=3,
)
STATEMENT: Final = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ")


def main(directory: Path) -> None:
    """Writes every file."""
    directory.mkdir(parents=True)
    events = list(_events())
    subjects = [subject_of(event) for event in events]
    stored, statements = asyncio.run(_asked_of_postgresql(events))
    asked = [
        {"subject": subject, "request": request, "reply": reply}
        for subject, (request, reply) in ASKED.items()
    ]
    (directory / "events.jsonl").write_bytes(b"\n".join(map(codec.encode, events)) + b"\n")
    (directory / "schema.sql").write_text(migrations()[1])
    (directory / "asyncapi.json").write_text(_contracts())
    for name, lines in (
        ("subjects", subjects),
        ("rows", stored),
        ("statuses", [STATUS, CLIENT]),
        ("asked", asked),
        ("letters", [HEADERS]),
        ("statements", statements),
    ):
        encoded = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        (directory / f"{name}.jsonl").write_bytes(encoded)


def _contracts() -> str:
    """Return what programs in other languages may rely on, a part a line, without prose."""
    document = _without_prose(msgspec.json.decode(msgspec.json.encode(async_api())))
    parts = {"channels": document["channels"], **document["components"]}
    blocks = [
        f'"{name}":{{\n{_lines(part)}\n}}' for name, part in parts.items() if name != "channels"
    ]
    return (
        f'{{"asyncapi":"{document["asyncapi"]}","channels":{{\n{_lines(parts["channels"])}\n}},'
        f'"components":{{{",".join(blocks)}}}}}\n'
    )


def _lines(part: dict[str, Any]) -> str:
    return ",\n".join(
        f"{msgspec.json.encode(name).decode()}:{msgspec.json.encode(value).decode()}"
        for name, value in part.items()
    )


def _without_prose(value: Any) -> Any:
    match value:
        case dict():
            prose = {"description", "summary"}
            return {
                key: _without_prose(inner)
                for key, inner in value.items()
                if key not in prose or isinstance(inner, dict)
            }
        case list():
            return [_without_prose(inner) for inner in value]
    return value


def _events() -> Iterator[Envelope]:
    """One of each type, and one that only another program knows, with as little as it may have."""
    stranger = Envelope(
        id=EVENT,
        type="backup.made",
        time=TIME,
        source="elsewhere",
        category="other",
        severity="warning",
        data=msgspec.Raw(b'{"number":1e3,"text":"\xc3\xbc"}'),
    )
    known = [
        msgspec.structs.replace(example(one), correlation_id="c-1", causation_id="d-1")
        for one in EVENT_TYPES.values()
    ]
    for number, one in enumerate((*known, stranger)):
        yield msgspec.structs.replace(
            one, id=UUID(int=EVENT.int + number), time=TIME + datetime.timedelta(seconds=number)
        )


async def _asked_of_postgresql(
    events: list[Envelope],
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-") as home,
        postgres_server(Path(home)) as server,
    ):
        async with open_pool(DatabaseSettings(url=server.url)) as pool:
            await migrate(pool)
            statements = [one for one in _statements() if await _is_one(pool, one["sql"])]
            await EventStore(pool).store([EventRow.of(event, n) for n, event in enumerate(events)])
            return await rows(pool), statements


def _statements() -> Iterator[dict[str, str]]:
    """The SQL statements: constants next to their users."""
    for package in (mediabus.service, mediabus.consumers, mediabus.runtime):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for name, value in vars(importlib.import_module(module.name)).items():
                sql = value.strip() if name.isupper() and isinstance(value, str) else ""
                if sql.startswith(STATEMENT):
                    yield {"name": f"{module.name}.{name}", "sql": sql}


async def _is_one(pool: Pool, sql: str) -> bool:
    """Whether it is a whole statement: some are put together."""
    async with pool.acquire() as connection:
        try:
            await connection.prepare(sql)
        except asyncpg.PostgresError:
            return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
