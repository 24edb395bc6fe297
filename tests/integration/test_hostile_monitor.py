"""Hostile content of clients, and other programs that write to the bucket.

The monitor continues, and so does everything else.
"""

import asyncio
import contextlib
import datetime
import functools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.process.live import Live
from mediabus.runtime.settings import MonitorSettings, NatsSettings, Settings
from mediabus.schemas.identity import Actor, uuid7
from mediabus.schemas.operations.requests import CancelDownload, Download
from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.clients.port import Observation
from mediabus.service.clients.sessions import Sessions
from mediabus.service.downloads import table
from mediabus.service.downloads.bucket import Statuses, read
from mediabus.service.monitor.follow.damping import stabilized
from mediabus.service.monitor.follow.discovery import Discovery
from mediabus.service.monitor.follow.sweep import Sweep
from mediabus.service.monitor.monitor import monitor
from mediabus.service.operations.downloads import Downloads
from mediabus.service.outbox.outbox import open_outbox
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.monitored import INSERT, has, is_shown, monitored, said
from tests.support.scripted import AlwaysListed, Script, ScriptedSettings, scripted
from tests.support.servers import nats_server

RAISED: list[Callable[[], BaseException]] = [
    RecursionError,
    lambda: OverflowError("Python int too large to convert to C int"),
    lambda: ValueError("9" * 5000),
    MemoryError,
    lambda: KeyError("\ud800"),
    lambda: asyncio.CancelledError("by nobody"),
]


@pytest.mark.parametrize("fault", RAISED)
async def test_any_exception_of_a_client_affects_only_that_client(
    pool: Pool, bus: Bus, fault: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, bad_settings = scripted("bad")
    good, good_settings = scripted("script")
    good.show("a", "downloading")

    async def raises() -> Observation:
        bad.looks += 1
        raise fault()

    monkeypatch.setattr(bad, "observe", raises)
    async with monitored(pool, bus, bad_settings, good_settings):
        await eventually(lambda: has(pool, "active", "a"))
        await eventually(lambda: _unreachable(pool))
        good.show("a", "completed")
        await eventually(lambda: has(pool, "completed", "a"))
        monkeypatch.undo()
        await eventually(lambda: _is_back(pool), within=30)

    events = await pool.fetch("SELECT payload FROM outbox ORDER BY position")
    told = [msgspec.json.decode(row["payload"]) for row in events]
    about = [it for it in told if it["type"].startswith("download_client.")]
    assert [it["type"] for it in about] == [
        "download_client.unreachable",
        "download_client.recovered",
    ]
    assert about[0]["data"]["reason"] == "protocol"
    assert len(about[0]["data"]["error_message"]) <= 1_000


async def _unreachable(pool: Pool) -> object:
    return await pool.fetchval("SELECT name FROM download_clients WHERE NOT reachable")


async def _is_back(pool: Pool) -> bool:
    return await _unreachable(pool) is None


async def test_items_that_cannot_be_kept_hold_up_no_other(
    pool: Pool, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    script, settings = scripted()
    script.show("before", "downloading")
    for item in ("", "x" * 6_000, "nul\0", "line\nbreak", "\udcff"):
        script.show(item, "downloading")
    huge = "n" * 9_000_000
    script.show("large", "downloading", title=huge, save_path=huge, message=huge, category=huge)
    script.show("lone", "downloading", title="\udcff", size=10**30, download_rate=-5)
    script.show("after", "downloading")
    async with monitored(pool, bus, settings):
        for item in ("before", "large", "lone", "after"):
            await eventually(functools.partial(has, pool, "active", item))
        looks = script.looks
        await eventually(lambda: script.looks > looks + 3)

    assert bus.nc.stats["reconnects"] == 0
    assert await pool.fetchval("SELECT count(*) FROM downloads") == 4
    assert await pool.fetchval("SELECT max(length(title)) FROM downloads") == 1_000
    skipped = [record for record in caplog.records if record.message == "download skipped"]
    assert len(skipped) == 5


async def test_a_poll_requested_during_a_poll_follows(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    slow = msgspec.structs.replace(settings, poll_idle=60.0)
    script.show("a", "paused")
    async with monitored(pool, bus, slow):
        await eventually(lambda: is_shown(bus, "a", Phase.PAUSED))
        script.answers_after = 1.0
        asked, looks = Statuses(bus), script.looks
        await asked.look_soon("script")
        await asyncio.sleep(0.3)  # the look is under way: the script answers after a second
        await asked.look_soon("script")
        await eventually(lambda: script.looks == looks + 2, within=10)


async def test_a_download_removed_before_it_is_due_is_not_discovered(pool: Pool, bus: Bus) -> None:
    """With any setting of ``removed_after``."""
    script, settings = scripted()
    script.show("stays", "paused")
    script.show("goes", "paused")
    contrary = MonitorSettings(removed_after=5.0, discovered_after=2.0)
    async with _watching(pool, bus, contrary, settings):
        await eventually(lambda: is_shown(bus, "goes", Phase.PAUSED))
        del script.items[ItemId("goes")]
        script.shown = None  # it lists what it has, and names nothing as removed
        await eventually(lambda: has(pool, "active", "stays") or has(pool, "paused", "stays"))
        await eventually(lambda: _is_not_shown(bus, "goes"), within=30)
    assert await pool.fetchval("SELECT count(*) FROM downloads WHERE client_item = 'goes'") == 0


async def _is_not_shown(bus: Bus, item: str) -> bool:
    return (ClientName("script"), ItemId(item)) not in (await read(bus)).downloads


@contextlib.asynccontextmanager
async def _watching(
    pool: Pool, bus: Bus, settings: MonitorSettings, *clients: ScriptedSettings
) -> AsyncIterator[None]:
    async with open_outbox(pool, bus) as outbox:
        working = asyncio.create_task(monitor(bus, pool, outbox, settings, Live(clients).values()))
        try:
            yield
            assert not working.done()
        finally:
            working.cancel()
            await asyncio.wait([working])


async def test_a_recovery_needs_a_byte_that_was_seen(pool: Pool, bus: Bus) -> None:
    """The bucket has lost its memory, as when the client was disabled for a while."""
    script, settings = scripted()
    await pool.execute(INSERT, uuid7(), "stalled", "a", None, None)
    script.show("a", "downloading", downloaded=100)
    script.show("done", "downloading")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "active", "done"))
        looks = script.looks
        await eventually(lambda: script.looks > looks + 5)
        assert await has(pool, "stalled", "a")
        script.show("a", "downloading", downloaded=101)
        await eventually(lambda: has(pool, "active", "a"))
    assert [kind for kind, _ in await said(pool)].count("download.recovered") == 1


async def test_a_download_of_a_client_that_left_is_given_up(pool: Pool, bus: Bus) -> None:
    """With and without an id, by a monitor that watches nothing."""
    for item in (None, "a" * 40):
        await pool.execute(INSERT, uuid7(), "initiating", item, None, "initiate")
    await pool.execute("UPDATE downloads SET asked_at = now() - interval '3 minutes'")
    async with monitored(pool, bus):
        await eventually(lambda: _count(pool, "failed", 2))
    assert [kind for kind, _ in await said(pool)] == ["download.failed"] * 2


async def _count(pool: Pool, state: str, wanted: int) -> bool:
    count = await pool.fetchval("SELECT count(*) FROM downloads WHERE state = $1", state)
    return bool(count == wanted)


async def test_downloads_of_a_watched_client_are_left_to_its_watcher(pool: Pool, bus: Bus) -> None:
    await pool.execute(INSERT, uuid7(), "initiating", "a" * 40, None, "initiate")
    await pool.execute("UPDATE downloads SET asked_at = now() - interval '3 minutes'")
    lease = "INSERT INTO leases (name, holder, beat) VALUES ('monitor.script', $1, 1)"
    await pool.execute(lease, uuid7())
    async with open_outbox(pool, bus) as outbox:
        sweep = Sweep(pool, outbox)
        for beats in (True, True, False):
            assert await _count(pool, "initiating", 1)
            if beats:
                await pool.execute("UPDATE leases SET beat = beat + 1")
            await sweep.sweep()
    assert await _count(pool, "failed", 1)


async def test_a_flapping_download_emits_unstable_and_stable_once(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    script.show("a", "downloading")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "active", "a"))
        for turn in range(12):
            script.show("a", "downloading" if turn % 2 else "paused")
            wanted = "active" if turn % 2 else "paused"
            await pool.execute("UPDATE downloads SET updated_at = now() - interval '1 minute'")
            await eventually(functools.partial(has, pool, wanted, "a"), within=20)
    kinds = [kind for kind, _ in await said(pool)]
    assert kinds == [
        "download.discovered",
        *["download.paused", "download.resumed"] * 2,
        "download.destabilized",
    ]
    await pool.execute("UPDATE downloads SET updated_at = now() - interval '6 minutes'")
    async with open_outbox(pool, bus) as outbox:
        (unstable,) = await table.unstable(pool, 60)
        await Sweep(pool, outbox).stabilize()
        assert not await table.step(outbox, unstable, stabilized(unstable)), "another monitor's"
        await Sweep(pool, outbox).stabilize()
    assert [kind for kind, _ in await said(pool)][len(kinds) :] == ["download.stabilized"]
    assert await has(pool, "active", "a")
    assert await pool.fetchval("SELECT unstable_since FROM downloads") is None


async def test_a_flapping_client_emits_few_events(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    async with monitored(pool, bus, settings):
        for _ in range(7):
            looks = script.looks
            await eventually(functools.partial(_has_looked, script, looks + 3))
            script.away_for = 12  # looks, of which there is one each tenth of a second
            await eventually(lambda: not script.away_for, within=30)
        await eventually(lambda: _was_told(pool, "download_client.unreachable", 4))
    kinds = [kind for kind, _ in await said(pool)]
    assert kinds == [*["download_client.unreachable", "download_client.recovered"] * 3, kinds[0]]


def _has_looked(script: Script, looks: int) -> bool:
    return script.looks >= looks


async def _was_told(pool: Pool, kind: str, times: int) -> bool:
    return [told for told, _ in await said(pool)].count(kind) == times


async def test_a_flapping_download_is_discovered_ever_later(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        discovery = Discovery(
            pool, outbox, AlwaysListed(), protocol="torrent", after=10.0, names=["script"]
        )
        for removed, patience in enumerate((10, 10, 40, 160, 640, 640)):
            status = DownloadStatus(
                client=ClientName("script"), item=ItemId("a"), title="a", phase=Phase.PAUSED
            )
            hold = await discovery.consider(status, datetime.datetime.now(datetime.UTC))
            assert hold is not None
            assert patience - 1 < hold.seconds < patience + 0.001, removed
            discovery.forget(ItemId("a"))
            await pool.execute(INSERT, uuid7(), "removed", "a", None, None)
            await pool.execute("UPDATE downloads SET updated_at = now()")


async def test_a_download_without_an_id_can_be_cancelled(pool: Pool, bus: Bus) -> None:
    download = uuid7()
    await pool.execute(INSERT, download, "initiating", None, None, "initiate")
    async with open_outbox(pool, bus) as outbox:
        downloads = Downloads(pool, outbox, Sessions([]), Statuses(bus))
        for delete_files in (False, True):
            request = CancelDownload(id=download, delete_files=delete_files)
            cancelled = await downloads.cancel(request, Actor("user", "42"))
            assert isinstance(cancelled, Download)
            assert cancelled.state == "cancelled"
    assert await said(pool) == [("download.cancelled", "42")]


async def test_an_operation_omits_invalid_values_of_a_status(pool: Pool, bus: Bus) -> None:
    values = {
        "large": b'{"client":"script","item":"large","title":"%b","phase":"paused"}'
        % (b"x" * 900_000),
        "deep": b"[" * 100_000,
        "other": b'{"client":"script","item":"","title":"x","phase":"paused"}',
    }
    shown = {}
    for item, value in values.items():
        download = uuid7()
        await pool.execute(INSERT, download, "active", item, None, None)
        await bus.js.publish(f"$KV.download_status.script.{item}", value)
        row = await table.by_id(pool, download)
        assert row
        shown[item] = await Statuses(bus).of(row)

    assert shown["large"]
    assert len(shown["large"].title) == 1_000
    assert shown["deep"] is shown["other"] is None


async def test_a_bad_value_in_the_bucket_is_skipped_counted_and_shown(
    pool: Pool, bus: Bus, settings: Settings
) -> None:
    script, client = scripted()
    script.show("a", "downloading", title="Dune")
    old = {"client": "year", "kind": "x", "reachable": True, "since": "0001-01-01T00:00:00Z"}
    values: dict[str, bytes] = {
        "other": b'"' + b"x" * 100_000,
        "other.deep": b"[" * 100_000,
        "other.none": b"",
        "year": json.dumps(old).encode(),
        "script.=00": b"{}",
        "script.=FF": b"nul",
        "script.fake": msgspec.json.encode(script.items[ItemId("a")]),
        "a.b.c": b"\xff",
        "huge.x": b'{"client":"huge","item":"x","title":"x","phase":"downloading",'
        b'"download_rate":' + b"9" * 400 + b"}",
    }
    async with monitored(pool, bus, client):
        await eventually(lambda: has(pool, "active", "a"))
        for key, value in values.items():
            await bus.js.publish(f"$KV.download_status.{key}", value)
        nats = ("--nats", settings.nats.url or "")
        top = await mediabus(*nats, "top")
        clients = await mediabus(*nats, "clients")
        doctor = await mediabus(*nats, "doctor", "--json")

    assert top.code == clients.code == 0
    assert "Dune" in top.out
    assert "8 invalid: see mediabus doctor" in top.out
    assert "script" in clients.out
    assert "cannot read other" in clients.err
    assert "Traceback" not in top.err + clients.err + doctor.err
    found = {it["name"]: it for it in map(json.loads, doctor.out.splitlines())}
    assert not found["download clients"]["ok"]
    assert found["client script"]["ok"]


async def test_acknowledgement_subjects_of_the_second_form_are_read(
    pool: Pool, tmp_path: Path
) -> None:
    """``js_ack_fc_v2``: with the domain and the account in them (ADR-15)."""
    flags = "feature_flags { js_ack_fc_v2: true }"
    with nats_server(tmp_path, config_extra=flags) as server:
        settings = NatsSettings(url=server.url)
        async with connect(settings, name="test", wait=10) as bus:
            await ensure_streams(bus, settings)
            await _lives_through_a_restart(pool, bus)
            for command in (
                ("top", "--once"),
                ("clients",),
                ("dead", "list"),
                ("tail", "--since", "1h", "--no-follow"),
            ):
                outcome = await mediabus("--nats", server.url, *command)
                assert outcome.code == 0, outcome.err
                assert not outcome.err
            outcome = await mediabus("--nats", server.url, "doctor")
            assert "Traceback" not in outcome.err


async def _lives_through_a_restart(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    script.show("a", "downloading")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "active", "a"))
        replies: list[str] = []

        async def note(message: Msg) -> None:
            replies.append(message.reply)

        await bus.js.subscribe("$KV.download_status.>", cb=note)
        await eventually(lambda: replies)
        assert len(replies[0].split(".")) >= 11, replies
    async with monitored(pool, bus, settings):
        script.show("a", "completed")
        await eventually(lambda: has(pool, "completed", "a"))
        assert "a" in str((await read(bus)).downloads)
