"""Report the health checks of an application that fail for a while, and their end."""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from mediabus.schemas.events import Event, HealthDegraded, HealthRecovered
from mediabus.service.apps.envelope import app_event
from mediabus.service.apps.http import AppHttp
from mediabus.service.apps.settings import AppSettings
from mediabus.service.clients.limits import MAX_MESSAGE_LENGTH, cut
from mediabus.service.outbox.outbox import Outbox

MAX_CHECKS: Final = 200
"""Checks of one application."""

LOCK: Final = "SELECT now() AS now FROM apps WHERE name = $1 FOR UPDATE"
READ: Final = "SELECT * FROM app_checks WHERE app = $1"
FORGET: Final = "DELETE FROM app_checks WHERE app = $1 AND name = $2"
SAVE: Final = """
INSERT INTO app_checks (app, name, message, level, wiki_url, failing_since, passing_since,
                        reported_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (app, name) DO UPDATE SET message = $3, level = $4, wiki_url = $5,
    failing_since = $6, passing_since = $7, reported_at = $8
"""


class Problem(msgspec.Struct, rename="camel"):
    """An entry of ``/health``: ``source`` is the check, ``type`` the level."""

    source: str
    type: str = "warning"
    message: str = ""
    wiki_url: str | None = None


@dataclasses.dataclass(frozen=True)
class Check:
    """A row of ``app_checks``: a check that fails, or has failed until a short time ago."""

    name: str
    message: str
    level: str
    wiki_url: str | None
    failing_since: datetime.datetime
    passing_since: datetime.datetime | None = None
    reported_at: datetime.datetime | None = None


def next_check(
    known: Check | None, problem: Problem | None, now: datetime.datetime, hold: float
) -> tuple[Check | None, bool]:
    """Return what to remember of a check, and whether that is reported. Pure.

    A check that is None is forgotten. ``hold`` is in seconds.
    """
    held = datetime.timedelta(seconds=hold)
    if problem is not None:
        known = _failing(known, problem, now)
        if known.reported_at is None and now - known.failing_since >= held:
            return dataclasses.replace(known, reported_at=now), True
        return known, False
    if known is None or known.reported_at is None:
        return None, False
    passing_since = known.passing_since or now
    if now - passing_since >= held:
        return None, True
    return dataclasses.replace(known, passing_since=passing_since), False


def _failing(known: Check | None, problem: Problem, now: datetime.datetime) -> Check:
    return Check(
        name=problem.source,
        message=problem.message,
        level=problem.type,
        wiki_url=problem.wiki_url,
        failing_since=known.failing_since if known else now,
        reported_at=known.reported_at if known else None,
    )


class Health:
    """The health checks of one application."""

    def __init__(self, outbox: Outbox, settings: AppSettings) -> None:
        self._outbox = outbox
        self._app = settings.name
        self._hold = settings.health_hold

    async def read(self, http: AppHttp) -> None:
        """Read which checks fail, and record what has changed for long enough.

        Raises:
            ClientUnavailable: the application does not answer.
        """
        problems = _by_check(await http.get("health", list[Problem]))
        async with self._outbox.transaction() as work:
            locked = await work.connection.fetchrow(LOCK, self._app)
            if locked is None:
                return
            rows = await work.connection.fetch(READ, self._app)
            known = {row["name"]: _check(dict(row)) for row in rows}
            for name in sorted({*known, *problems}):
                was, now = known.get(name), locked["now"]
                check, is_reported = next_check(was, problems.get(name), now, self._hold)
                if is_reported:
                    await work.record(app_event(self._app, self._event(was, check, now)))
                if check is None:
                    await work.connection.execute(FORGET, self._app, name)
                elif check != was:
                    await work.connection.execute(SAVE, self._app, *dataclasses.astuple(check))

    def _event(self, was: Check | None, check: Check | None, now: datetime.datetime) -> Event:
        about = check or was
        if about is None:
            raise RuntimeError("a check was reported that neither fails nor failed")
        fields: dict[str, Any] = {
            "app": self._app,
            "check": about.name,
            "message": about.message,
            "level": about.level,
            "wiki_url": about.wiki_url,
        }
        if check is not None:
            return HealthDegraded(**fields)
        end = about.passing_since or now
        away = (end - about.failing_since).total_seconds()
        return HealthRecovered(**fields, away_seconds=max(away, 0.0))


def _check(row: Mapping[str, Any]) -> Check:
    return Check(**{field.name: row[field.name] for field in dataclasses.fields(Check)})


def _by_check(problems: Iterable[Problem]) -> dict[str, Problem]:
    """Return the problems by their check, within limits. One check may have several."""
    found: dict[str, Problem] = {}
    for problem in problems:
        name = cut(problem.source.strip(), 200)
        message = cut(problem.message, MAX_MESSAGE_LENGTH)
        if not name or problem.type == "ok" or len(found) >= MAX_CHECKS:
            continue
        if name in found:
            message = cut(f"{found[name].message}; {message}", MAX_MESSAGE_LENGTH)
        url = cut(problem.wiki_url, MAX_MESSAGE_LENGTH) if problem.wiki_url else None
        found[name] = Problem(name, cut(problem.type, 50), message, url)
    return found
