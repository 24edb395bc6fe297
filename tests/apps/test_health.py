"""Health checks, versions and outages of an application become events."""

import datetime

from hypothesis import given
from hypothesis import strategies as st

from mediabus.runtime.settings import Settings
from mediabus.service.apps.health import Check, Problem, next_check
from tests.support.apps import Prowlarr, Seerr, Sonarr
from tests.support.apps.reading import reading, so_many, stored
from tests.support.eventually import eventually

NOW = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)
CHECK = "IndexerStatusCheck"


async def test_health_check_is_reported_after_the_hold(settings: Settings) -> None:
    async with Sonarr.running() as sonarr, reading(settings, sonarr) as user:
        await sonarr.degrade(CHECK, "All indexers are unavailable", "error")
        (degraded,) = await so_many(user, 1, "health.degraded")
        assert degraded["data"] == {
            "app": "sonarr",
            "check": CHECK,
            "message": "All indexers are unavailable",
            "level": "error",
            "wiki_url": f"https://wiki.servarr.com/system#{CHECK}",
        }
        await sonarr.recover(CHECK)
        (recovered,) = await so_many(user, 1, "health.recovered")
        assert recovered["data"]["away_seconds"] >= 0.5
        assert recovered["resource_id"] == "sonarr"


async def test_flapping_check_is_not_reported(settings: Settings) -> None:
    async with Sonarr.running() as sonarr, reading(settings, sonarr, health_hold=600) as user:
        await sonarr.degrade(CHECK, "down")
        await eventually(lambda: user.pool.fetchval("SELECT name FROM app_checks"), within=30)
        await sonarr.recover(CHECK)

        async def forgotten() -> bool:
            return bool(await user.pool.fetchval("SELECT count(*) = 0 FROM app_checks"))

        await eventually(forgotten, within=30)
        assert await stored(user) == []


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=30),
    st.floats(0, 50),
)
def test_reports_of_a_check_alternate_and_keep_the_hold(
    steps: list[tuple[bool, float]], hold: float
) -> None:
    known: Check | None = None
    now, since, was, reported = NOW, NOW, None, False
    for fails, seconds in steps:
        now += datetime.timedelta(seconds=seconds)
        since = since if fails == was else now
        was = fails
        known, is_reported = next_check(known, Problem(CHECK) if fails else None, now, hold)
        if is_reported:
            assert fails is not reported
            assert (now - since).total_seconds() >= hold - 1e-6
            reported = fails


async def test_outage_is_reported_with_its_reason_and_its_end(settings: Settings) -> None:
    async with Prowlarr.running() as prowlarr, reading(settings, prowlarr) as user:
        key, prowlarr.api_key = prowlarr.api_key, "changed"
        await user.pool.execute("UPDATE apps SET version = '1.0' WHERE version IS NOT NULL")
        (lost,) = await so_many(user, 1, "app.unreachable")
        assert lost["data"]["reason"] == "authentication"
        assert key not in lost["data"]["error_message"]
        prowlarr.api_key = key
        await so_many(user, 1, "app.recovered")
        (updated,) = await so_many(user, 1, "application.updated")
        assert updated["data"]["previous_version"] == "1.0"
        assert updated["data"]["new_version"] == prowlarr.version


async def test_application_without_history_is_watched(settings: Settings) -> None:
    async with Seerr.running() as seerr, reading(settings, seerr) as user:
        assert await user.pool.fetchval("SELECT version FROM apps") == seerr.version
