"""Checks of the applications: whether they answer, and whether their webhooks arrive."""

import datetime
from collections.abc import AsyncIterator, Collection
from typing import Final

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.api.request import ask
from mediabus.commands.output import local_time
from mediabus.doctor.finding import Finding
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.visible import plain
from mediabus.schemas.operations.apps import AppList, AppState, ListApps

SILENT_AFTER: Final = datetime.timedelta(minutes=10)
"""How long after the last webhook a release may be grabbed. Each has a webhook of its own."""


async def examine_apps(bus: Bus, configured: Collection[str]) -> AsyncIterator[Finding]:
    """Check the applications that a service reads, and those that are configured here."""
    try:
        apps = (await ask(bus, "apps.list", ListApps(), AppList)).items
    except (NoAnswer, OperationFailed) as error:
        if configured:
            yield _problem("applications", str(error), "start `mediabus service`")
        return
    for name in sorted(set(configured) - {app.name for app in apps}):
        advice = "start `mediabus service` or `mediabus up` with this application in its settings"
        yield _problem(f"app {name}", "no service reads it", advice)
    for app in apps:
        yield _examined(app)


def _examined(app: AppState) -> Finding:
    name = f"app {app.name}"
    if app.reachable is None or (app.reachable and app.read_at is None):
        return _problem(name, "not reached yet", "check its `url`, and the log of the service")
    if not app.reachable:
        advice = "check that it runs, and its `url` and `api_key` (docs/apps.md)"
        return _problem(name, f"{app.reason}: {app.error_message}", advice)
    if _is_silent(app) and app.webhook_at and app.grabbed_at:
        found = (
            f"webhook silent: the last one came at {local_time(app.webhook_at)}, but a release was "
            f"grabbed at {local_time(app.grabbed_at)}"
        )
        advice = f"run `mediabus apps connect {app.name}`, which tests it. No event is lost"
        return _problem(name, found, advice)
    webhook = "" if app.webhook_at else ", no webhook yet"
    found = f"{app.kind} {app.version or ''}".rstrip() + webhook
    return Finding(name=plain(name), ok=True, found=plain(found))


def _is_silent(app: AppState) -> bool:
    """Whether releases are grabbed without webhooks, although there was one before."""
    if app.webhook_at is None or app.grabbed_at is None:
        return False
    return app.grabbed_at - app.webhook_at > SILENT_AFTER


def _problem(name: str, found: str, advice: str) -> Finding:
    return Finding(name=plain(name), ok=False, found=plain(found), advice=plain(advice))
