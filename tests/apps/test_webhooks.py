"""``POST /hooks/<app>/<token>``: every kind of webhook of every application."""

import base64
import datetime
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.schemas import codec
from mediabus.schemas.subjects import WAKE_SUBJECT
from mediabus.service.apps import AnyAppSettings
from mediabus.service.apps.configured import app_settings
from mediabus.service.apps.ids import download_story
from mediabus.service.apps.port import Removal
from mediabus.service.apps.wake import decode_wake
from mediabus.service.ingest.http.webhooks import Webhooks
from tests.integration.test_persister import all_acknowledged, persisting
from tests.support.apps import Lidarr, Prowlarr, Radarr, Seerr, Sonarr
from tests.support.apps.acting import acted, remove_everything
from tests.support.http_in import Reply, send, serving_endpoint
from tests.support.servers import NatsServer
from tests.support.stream import messages

KEY = "0123456789abcdef"
HASH = "ABCDEF0123456789ABCDEF0123456789ABCDEF01"
START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
KINDS = ("sonarr", "radarr", "lidarr", "prowlarr", "seerr")
APPS: dict[str, AnyAppSettings] = {
    app.name: app
    for app in app_settings(
        Settings(
            apps=[
                {"name": kind, "kind": kind, "url": "http://127.0.0.1:1", "api_key": KEY}
                for kind in KINDS
            ]
        ),
        {},
    )
}


@pytest.fixture
async def base(bus: Bus) -> AsyncIterator[str]:
    async with serving_endpoint(Webhooks(bus, list(APPS.values())).receive) as url:
        yield url


def hook(base: str, name: str) -> str:
    return f"{base}/hooks/{name}/{APPS[name].token}"


async def stored(bus: Bus) -> list[dict[str, Any]]:
    return [msgspec.json.decode(message.data or b"") for message in await messages(bus)]


async def types(bus: Bus) -> list[str]:
    return [one["type"] for one in await stored(bus)]


COMMON = {"Grab", "Health", "HealthRestored", "ApplicationUpdate"}
IMPORTING = COMMON | {"Download", "Rename"}
INTERACTION = {"ManualInteractionRequired"}
KINDS_OF = {
    "sonarr": IMPORTING | INTERACTION | {"SeriesAdd", "SeriesDelete", "EpisodeFileDelete"},
    "radarr": IMPORTING | INTERACTION | {"MovieAdded", "MovieDelete", "MovieFileDelete"},
    "lidarr": IMPORTING
    | {"DownloadFailure", "ImportFailure", "Retag", "ArtistAdd", "ArtistDelete", "AlbumDelete"},
    "prowlarr": COMMON,
}
"""Every kind of webhook that an application sends, except Test."""

BLOCKED, DELETED = "download.import_blocked", "media_file.deleted"
WITHOUT_HISTORY = {
    "sonarr": [DELETED, DELETED, BLOCKED],
    "radarr": [DELETED, BLOCKED],
    "lidarr": [],
    "prowlarr": [],
}
"""The events of all webhooks of an application."""


@pytest.mark.parametrize("name", KINDS_OF)
async def test_every_kind_is_accepted_and_those_without_history_become_events(
    base: str, bus: Bus, name: str
) -> None:
    method = 2 if name == "radarr" else 1
    async with acted(name, hook(base, name), method=method) as app:
        await remove_everything(app)
    attempts = app.connections.attempts
    assert {status for _, status in attempts} == {200}
    assert {kind for kind, _ in attempts} == KINDS_OF[name]
    assert await types(bus) == WITHOUT_HISTORY[name]
    assert {one["source"] for one in await stored(bus)} <= {f"mediabus/{name}"}


async def test_file_that_the_history_does_not_record_as_deleted_is_an_event(
    base: str, bus: Bus
) -> None:
    async with Sonarr.running() as sonarr:
        sonarr.connections.add(hook(base, "sonarr"))
        series = sonarr.put_series("Severance")
        await sonarr.delete_file(series, 1, "manualOverride")
    (event,) = await stored(bus)
    assert event["data"]["reason"] == "manual"
    assert event["data"]["path"].endswith("S01E01.mkv")
    assert event["data"]["media_title"] == "Severance"
    assert sonarr.history.since(START, None) == []


async def test_test_webhook_is_accepted_and_stores_nothing(base: str, bus: Bus) -> None:
    for name, kind in (("sonarr", Sonarr), ("radarr", Radarr), ("lidarr", Lidarr)):
        assert (await send(hook(base, name), kind().test_payload())).status == 200
    assert (await send(hook(base, "prowlarr"), Prowlarr().test_payload())).status == 200
    test = {"notification_type": "TEST_NOTIFICATION", "subject": "Test Notification"}
    assert (await send(hook(base, "seerr"), test)).status == 200
    assert await stored(bus) == []


async def test_blocked_import_has_its_reasons_and_the_item_of_the_client(
    base: str, bus: Bus
) -> None:
    async with Radarr.running() as radarr:
        radarr.connections.add(hook(base, "radarr"))
        movie = radarr.put_movie("Dune")
        await radarr.require_interaction(movie, HASH, ["sample", "not an upgrade", "sample"])
    (event,) = await stored(bus)
    assert event["severity"] == "warning"
    data = event["data"]
    assert data["reasons"] == ["sample", "not an upgrade"]
    assert (data["client_item"], data["media_title"]) == (HASH.lower(), "Dune")
    assert event["correlationid"] == download_story(HASH.lower())


SEERR = {
    "MEDIA_PENDING": ["request.created"],
    "MEDIA_AUTO_REQUESTED": ["request.created"],
    "MEDIA_AUTO_APPROVED": ["request.created", "request.approved"],
    "MEDIA_APPROVED": ["request.approved"],
    "MEDIA_DECLINED": ["request.declined"],
    "MEDIA_AVAILABLE": ["request.available"],
    "MEDIA_FAILED": ["request.failed"],
    "ISSUE_CREATED": ["issue.created"],
    "ISSUE_COMMENT": ["issue.commented"],
    "ISSUE_RESOLVED": ["issue.resolved"],
    "ISSUE_REOPENED": ["issue.reopened"],
}


@pytest.mark.parametrize("kind", SEERR)
async def test_every_kind_of_seerr_becomes_an_event(base: str, bus: Bus, kind: str) -> None:
    async with Seerr.running() as seerr:
        request = await seerr.request("Dune")
        seerr.add_webhook(hook(base, "seerr"))
        issue = {"issue_id": "4", "reportedBy_username": "bob", "issue_type": "VIDEO"}
        comment = {"comment_message": "still broken", "commentedBy_username": "eve"}
        of_issue = issue | (comment if kind == "ISSUE_COMMENT" else {})
        values = request if kind.startswith("MEDIA") else {"subject": "Dune", **of_issue}
        await seerr.tell(kind, values, message="text")
        assert seerr.attempts == [(kind, 200)]
    found = await stored(bus)
    assert [one["type"] for one in found] == SEERR[kind]
    first = found[0]
    assert first["data"]["title"] == "Dune"
    if kind.startswith("MEDIA"):
        assert (first["data"]["tmdb_id"], first["subject"]) == (438631, "request/seerr/1")
        assert first["data"]["requested_by"] == "alice"
    people = {"MEDIA_PENDING": "alice", "MEDIA_AUTO_REQUESTED": "alice"}
    people |= {"ISSUE_CREATED": "bob", "ISSUE_COMMENT": "eve"}
    if kind in people:
        assert (first["actortype"], first["actorid"]) == ("user", people[kind])


async def test_request_is_stored_once_however_often_it_is_sent(
    base: str, bus: Bus, pool: Pool
) -> None:
    async with Seerr.running() as seerr:
        seerr.add_webhook(hook(base, "seerr"))
        request = await seerr.request("Dune")
        await seerr.tell("MEDIA_AUTO_REQUESTED", request)
        await seerr.tell("MEDIA_AUTO_APPROVED", request)
    created = [one for one in await stored(bus) if one["type"] == "request.created"]
    assert len(created) == 3
    assert len({one["id"] for one in created}) == 1
    assert {"time" in one for one in created} == {False}
    async with persisting(bus, pool):
        await all_acknowledged(bus)
    rows = await pool.fetch("SELECT type FROM events ORDER BY type")
    assert [row["type"] for row in rows] == ["request.approved", "request.created"]


async def test_same_webhook_within_two_minutes_is_one_event(base: str, bus: Bus) -> None:
    body = {"eventType": "ManualInteractionRequired", "downloadId": HASH}
    for _ in range(2):
        assert (await send(hook(base, "sonarr"), body)).status == 200
    assert (await send(hook(base, "radarr"), body)).status == 200
    assert len(await stored(bus)) == 2


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"eventType": "Unheard", "x": [1, {"y": None}]}, "Unheard"),
        ({"eventType": 7}, None),
        ({}, None),
        ({"eventType": "ManualInteractionRequired", "downloadInfo": []}, None),
        ({"eventType": "ManualInteractionRequired", "series": {"title": 5}}, None),
    ],
)
async def test_unknown_webhook_is_stored_with_its_body(
    base: str, bus: Bus, body: dict[str, Any], kind: str | None
) -> None:
    assert (await send(hook(base, "sonarr"), body)).status == 200
    (event,) = await stored(bus)
    assert event["type"] == "app.unknown_event"
    assert event["data"]["body"] == body
    assert event["data"]["reason"]
    if kind:
        assert event["data"]["event_type"] == kind


LONG = "x" * 6_000


@pytest.mark.parametrize(
    ("request_id", "person", "media_type"),
    [(LONG, "alice", "movie"), ("", "alice", "movie"), ("1", LONG, "tv"), ("1", "a", "book")],
)
async def test_request_that_cannot_be_an_event_is_stored_with_its_body(
    base: str, bus: Bus, request_id: str, person: str, media_type: str
) -> None:
    body = {
        "notification_type": "MEDIA_PENDING",
        "subject": "Dune",
        "media": {"media_type": media_type},
        "request": {"request_id": request_id, "requestedBy_username": person},
    }
    assert (await send(hook(base, "seerr"), body)).status == 200
    (event,) = await stored(bus)
    assert (event["type"], event["data"]["body"]) == ("app.unknown_event", body)
    codec.decode(msgspec.json.encode(event))


@pytest.mark.parametrize("text", ["a\0b", "x" * 980_000])
async def test_body_that_no_event_can_hold_is_left_out(base: str, bus: Bus, text: str) -> None:
    body = msgspec.json.encode({"eventType": "Unheard", "text": text, "more": "\0"})
    assert (await send(hook(base, "lidarr"), body)).status == 200
    (event,) = await stored(bus)
    assert event["data"]["omitted_bytes"] == len(body)
    codec.decode(msgspec.json.encode(event))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"a":' * 100_000]
)
async def test_body_that_is_no_object_is_refused(base: str, bus: Bus, body: bytes) -> None:
    reply = await send(hook(base, "sonarr"), body)
    assert (reply.status, "not a JSON object" in reply.body["error"]) == (400, True)
    assert await stored(bus) == []


async def test_large_body_is_refused(base: str) -> None:
    assert (await send(hook(base, "sonarr"), b" " * 1_000_001)).status == 413


@pytest.mark.parametrize("path", ["sonarr", "sonarr/", "sonarr/wrong", "other/token", ""])
async def test_webhook_without_its_token_is_refused(base: str, bus: Bus, path: str) -> None:
    reply = await send(f"{base}/hooks/{path}", {"eventType": "Unheard"})
    assert reply.status == 401
    wrong_app = await send(f"{base}/hooks/radarr/{APPS['sonarr'].token}", {"eventType": "Test"})
    assert wrong_app.status == 401
    assert await stored(bus) == []


async def authorized(base: str, **headers: str) -> Reply:
    return await send(f"{base}/hooks/sonarr", {"eventType": "Test"}, **headers)


async def test_token_is_accepted_as_password_and_in_headers(base: str) -> None:
    token = APPS["sonarr"].token
    basic = base64.b64encode(f"sonarr:{token}".encode()).decode()
    for headers in (
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"Bearer {token}"},
        {"X_Mediabus_Token": token},
    ):
        assert (await authorized(base, **headers)).status == 200
    assert (await authorized(base, Authorization="Basic bm90aGluZw==")).status == 401


async def test_other_methods_are_refused(base: str) -> None:
    reply = await send(hook(base, "sonarr"), b"{}", method="DELETE")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST, PUT")


async def test_every_accepted_webhook_wakes_the_reader(base: str, bus: Bus) -> None:
    subscription = await bus.nc.subscribe(f"{WAKE_SUBJECT}.*")
    await bus.nc.flush()
    await send(hook(base, "sonarr"), {"eventType": "Grab"})
    await send(hook(base, "radarr"), {"eventType": "Unheard"})
    woken = [await subscription.next_msg(timeout=5) for _ in range(2)]
    assert [message.subject.rpartition(".")[2] for message in woken] == ["sonarr", "radarr"]
    assert [decode_wake(message.data).kind for message in woken] == ["Grab", "Unheard"]


async def test_removal_tells_the_reader_whether_the_files_were_deleted(base: str, bus: Bus) -> None:
    subscription = await bus.nc.subscribe(f"{WAKE_SUBJECT}.sonarr")
    await bus.nc.flush()
    async with Sonarr.running() as sonarr:
        sonarr.connections.add(hook(base, "sonarr"))
        series = sonarr.put_series("Severance")
        await sonarr.delete_series(series, files=True)
    wake = decode_wake((await subscription.next_msg(timeout=5)).data)
    assert (wake.removal, wake.is_about_library) == (Removal(series["id"], True), True)
    odd: dict[str, Any] = {"eventType": "SeriesDelete", "series": {"id": "x"}}
    assert (await send(hook(base, "sonarr"), odd)).status == 200
    wake = decode_wake((await subscription.next_msg(timeout=5)).data)
    assert (wake.removal, wake.is_about_library) == (None, True)


async def test_sender_gets_503_while_nats_is_away_and_never_waits_two_seconds(
    base: str, bus: Bus, nats: NatsServer
) -> None:
    body = {"eventType": "ManualInteractionRequired", "downloadId": HASH}
    os.kill(nats.pid, signal.SIGSTOP)
    started = time.monotonic()
    hung = await send(hook(base, "sonarr"), body)
    assert (hung.status, hung.headers["Retry-After"]) == (503, "10")
    assert time.monotonic() - started < 2
    os.kill(nats.pid, signal.SIGCONT)
    nats.kill()
    assert (await send(hook(base, "sonarr"), body)).status == 503
    assert (await send(hook(base, "sonarr"), {"eventType": "Test"})).status == 503
    assert (await send(hook(base, "sonarr"), {"eventType": "Grab"})).status == 200
    nats.start()
    while (await send(hook(base, "sonarr"), body)).status == 503:
        pass
    assert await types(bus) == ["download.import_blocked"]
