"""What needs a person: each problem with why it is one, since when, and what to do."""

import datetime
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from mediabus.schemas.events.base import Severity
from mediabus.schemas.operations.requests import Download, HistoryEvent
from mediabus.schemas.plain_text import plain
from mediabus.schemas.status import ClientStatus
from mediabus.web.views.clients import client_view
from mediabus.web.views.downloads import Action, download_view

RECENT: Final = datetime.timedelta(days=7)
"""How long a failed download is shown that its client has no more."""

FAILURE_ADVICE: Final = {
    "no_sources": "Wait for sources and resume it in the client, or add another release.",
    "missing_files": "Restore its files, or start a recheck in the client.",
    "missing_articles": "Add another release: the usenet servers have lost articles of this one.",
    "disk_full": "Free space on the disk of the client, then resume it there.",
    "not_writable": "Give the client write access to its download folder, then resume it there.",
    "rejected": "Add another release: the client does not accept this one.",
    "unpack": "Add another release: this archive is damaged or of an unsupported format.",
    "password": "Add another release: this archive has a password.",
    "removed_from_client": "Add it again if you still want it.",
    "client_error": "See the log of the client, correct the cause and resume it there.",
}
"""What to do for each reason of a failure."""

STALLED_ADVICE: Final = "Wait for sources, or cancel it and add another release."
IMPORT_ADVICE: Final = "Import it by hand under Activity, Queue in {app}, or remove it there."
TARGET_ADVICE: Final = (
    "Check its address and password under [[notify]] in mediabus.toml. "
    "Its messages wait until it answers."
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem. ``download`` is the id that ``actions`` are about."""

    title: str
    severity: Severity
    why: str
    since: datetime.datetime
    advice: str
    resource: tuple[str, str] | None = None
    client: str | None = None
    download: str | None = None
    actions: tuple[Action, ...] = ()

    @property
    def key(self) -> str:
        """What the problem is about, once in its group."""
        return self.download or (self.resource[1] if self.resource else self.title)


class Group(msgspec.Struct, frozen=True):
    """The problems of one kind; ``name`` is its anchor on the page."""

    name: str
    title: str
    problems: tuple[Problem, ...]


def client_problems(clients: Iterable[ClientStatus]) -> Iterator[Problem]:
    """Yield the clients that are unreachable or report a warning."""
    for status in clients:
        view = client_view(status)
        if view.severity == "info":
            continue
        yield Problem(
            title=view.shown,
            severity=view.severity,
            why=view.why or "unreachable",
            since=view.since,
            advice=view.advice or "See the client.",
            resource=("download_client", view.name),
        )


def download_problems(downloads: Iterable[Download], now: datetime.datetime) -> Iterator[Problem]:
    """Yield the stalled downloads, and the failed ones that are recent or still in their client."""
    for download in downloads:
        is_recent = now - download.updated_at < RECENT
        if download.state == "failed" and not (is_recent or download.status):
            continue
        view = download_view(download)
        is_stalled = download.state == "stalled"
        advice = STALLED_ADVICE if is_stalled else FAILURE_ADVICE.get(download.reason or "", "")
        yield Problem(
            title=view.title,
            severity=view.severity,
            why=view.why or ", ".join(view.facts) or view.state,
            since=download.updated_at,
            advice=advice or FAILURE_ADVICE["client_error"],
            resource=view.resource,
            client=view.client,
            download=view.id,
            actions=view.actions,
        )


def import_problems(
    blocked: Iterable[HistoryEvent], imported: Iterable[HistoryEvent]
) -> Iterator[Problem]:
    """Yield the imports that are blocked and have not succeeded since."""
    for event, fields in _open(blocked, imported):
        reasons = fields.get("reasons")
        texts = [str(reason) for reason in reasons] if isinstance(reasons, list) else []
        app = event.source.rpartition("/")[2] or "the application"
        yield Problem(
            title=_text(fields.get("title"), event.resource_id or "?"),
            severity="warning",
            why=_text("; ".join(texts), "the import is blocked"),
            since=event.time,
            advice=IMPORT_ADVICE.format(app=plain(app[:60])),
            resource=_resource(event),
            client=_text(fields.get("client"), "") or None,
        )


def target_problems(
    failing: Iterable[HistoryEvent], recovered: Iterable[HistoryEvent]
) -> Iterator[Problem]:
    """Yield the notification targets that fail and have not recovered since."""
    for event, fields in _open(failing, recovered):
        yield Problem(
            title=_text(fields.get("target"), event.resource_id or "?"),
            severity="error",
            why=_text(fields.get("error_message"), "it does not accept messages"),
            since=event.time,
            advice=TARGET_ADVICE,
            resource=_resource(event),
        )


def _open(
    problems: Iterable[HistoryEvent], ends: Iterable[HistoryEvent]
) -> Iterator[tuple[HistoryEvent, dict[str, Any]]]:
    """Yield the newest problem of each resource unless its end is later. Newest first."""
    ended: dict[str | None, datetime.datetime] = {}
    for event in ends:
        ended[event.resource_id] = max(event.time, ended.get(event.resource_id, event.time))
    seen: set[str | None] = set()
    for event in problems:
        if event.resource_id in seen:
            continue
        seen.add(event.resource_id)
        end = ended.get(event.resource_id)
        if end is None or end < event.time:
            yield event, _fields(event)


def _fields(event: HistoryEvent) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(event.data)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _resource(event: HistoryEvent) -> tuple[str, str] | None:
    if event.resource_type and event.resource_id:
        return event.resource_type, event.resource_id
    return None


def _text(value: object, default: str) -> str:
    return plain(str(value)[:300]) if value else plain(default[:300])
