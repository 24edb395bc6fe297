"""`mediabus apps`, `apps connect` and `apps import`, and what `mediabus doctor` says."""

import datetime
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from tests.support.apps import Sonarr
from tests.support.commands import Outcome
from tests.support.commands import mediabus as command
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.processes import HOST, Process, clients_toml, processes

HASH = "ABCDEF0123456789ABCDEF0123456789ABCDEF01"
PAST = datetime.datetime(2021, 5, 1, tzinfo=datetime.UTC)


async def run(settings: Settings, directory: Path, *args: str, **changes: Any) -> Outcome:
    config = directory / "cli.toml"
    config.write_text(clients_toml(settings))
    url = settings.nats.url or ""
    return await command(*args, MEDIABUS_NATS_URL=url, MEDIABUS_CONFIG=str(config), **changes)


async def shown(settings: Settings, directory: Path) -> dict[str, Any]:
    outcome = await run(settings, directory, "apps", "--json")
    assert outcome.code == 0, outcome.err
    return {line["name"]: line for line in map(json.loads, outcome.out.splitlines())}


def with_apps(settings: Settings, *apps: dict[str, Any]) -> Settings:
    return msgspec.structs.replace(settings, apps=list(apps))


def table(sonarr: Sonarr, name: str = "tv") -> dict[str, Any]:
    return {"name": name, "kind": "sonarr", "url": sonarr.url, "api_key": sonarr.api_key, "poll": 1}


async def is_met(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM apps WHERE read_at IS NOT NULL"))


@pytest.mark.timeout(240)
async def test_apps_are_shown_connected_imported_and_examined(
    pool: Pool, settings: Settings, tmp_path: Path
) -> None:
    async with Sonarr.running() as sonarr:
        absent = {"name": "off", "kind": "radarr", "url": f"http://{HOST}:{free_port()}"}
        settings = with_apps(settings, table(sonarr), {**absent, "api_key": "x" * 32})
        series = sonarr.put_series("Severance")
        old = sonarr.put_series("Older")
        sonarr._row("grabbed", old, 1, "Older.S01E01", {"indexer": "x"}, HASH)["date"] = PAST
        with processes(settings, tmp_path, "service", "persist") as (service, _):
            await eventually(lambda: is_met(pool), within=30)
            await must_show_both(settings, tmp_path, sonarr)
            await must_connect(settings, tmp_path, sonarr, service)
            await must_import(settings, tmp_path, pool)
            await sonarr.grab(series, [1], HASH)
            await must_find_a_silent_webhook(settings, tmp_path, sonarr, pool)


async def must_show_both(settings: Settings, directory: Path, sonarr: Sonarr) -> None:
    apps = await shown(settings, directory)
    assert (apps["tv"]["version"], apps["tv"]["reachable"]) == (sonarr.version, True)
    assert apps["off"]["kind"] == "radarr"
    text = await run(settings, directory, "apps")
    assert "reachable" in text.out
    assert sonarr.version in text.out


async def must_connect(
    settings: Settings, directory: Path, sonarr: Sonarr, service: Process
) -> None:
    base = f"http://{HOST}:{service.port}"
    for done in ("created", "updated"):
        outcome = await run(settings, directory, "apps", "connect", "tv", "--url", base)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(f"{done}: ")
    (webhook,) = sonarr.connections.all()
    printed = await run(
        settings, directory, "apps", "connect", "tv", "--show-url", MEDIABUS_INGEST_URL=base
    )
    assert printed.out.strip() == webhook.field("url")
    for args, why in (
        (("connect", "tv"), "use --url"),
        (("connect", "nope", "--url", base), "no application 'nope'; they have: tv, off"),
        (("connect", "off", "--url", base), "Cannot reach Radarr"),
        (("connect", "tv", "--url", "http://127.0.0.1:1"), "did not accept the webhook"),
        (("import", "nope", "--since", "2020-01-01"), "no application"),
    ):
        refused = await run(settings, directory, "apps", *args)
        assert refused.code == 1
        assert why in refused.err
        assert sonarr.api_key not in refused.err


async def must_import(settings: Settings, directory: Path, pool: Pool) -> None:
    outcome = await run(settings, directory, "apps", "import", "tv", "--since", "2020-01-01")
    assert (outcome.code, outcome.out) == (0, "imported 1 rows of tv\n"), outcome.err

    async def is_stored() -> bool:
        query = "SELECT occurred_at FROM events WHERE type = 'release.grabbed'"
        return bool(await pool.fetchval(query) == PAST)

    await eventually(is_stored, within=30)
    again = await run(settings, directory, "apps", "import", "tv", "--since", "2020-01-01")
    assert again.code == 0


async def must_find_a_silent_webhook(
    settings: Settings, directory: Path, sonarr: Sonarr, pool: Pool
) -> None:
    """The history has a row that no webhook announced, ten minutes after the last webhook."""

    async def is_told() -> bool:
        return await pool.fetchval("SELECT webhook_at FROM apps WHERE name = 'tv'") is not None

    await eventually(is_told, within=30)
    fine = await run(settings, directory, "doctor")
    assert f"sonarr {sonarr.version}" in fine.out
    assert "webhook silent" not in fine.out
    assert "app off" in fine.out
    await pool.execute("UPDATE apps SET webhook_at = now() - interval '1 hour' WHERE name = 'tv'")
    silent = await run(settings, directory, "doctor")
    assert "webhook silent" in silent.out
    assert "mediabus apps connect tv" in silent.out
    assert sonarr.connections.attempts
