"""The states of the entities, worked out from the statuses and figures. No I/O."""

import dataclasses
import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from mediabus.consumers.home_assistant.library import Statuses
from mediabus.consumers.home_assistant.topics import Topics, safe_id
from mediabus.schemas.operations.apps import AppState
from mediabus.schemas.plain_text import plain
from mediabus.schemas.status import TRANSFERRING, ClientStatus, DownloadStatus, Phase
from mediabus.schemas.wording import reason_text

INACTIVE: Final = frozenset({Phase.PAUSED, Phase.COMPLETED, Phase.FAILED, Phase.UNKNOWN})
MAX_STATE: Final = 255
"""Characters of a state. Home Assistant rejects longer ones."""

MAX_REASONS: Final = 20
MAX_CLIENTS: Final = 100
"""Clients that become devices. More than that are a mistake or an attack."""


@dataclasses.dataclass
class Figures:
    """What is not in the bucket. None if it is not known yet."""

    failed_today: int | None = None
    dead_letters: int | None = None
    apps: tuple[AppState, ...] | None = None
    last_event: str | None = None
    last_event_attributes: bytes = b"{}"


def shown_clients(statuses: Statuses) -> list[ClientStatus]:
    """Return the clients that become devices, by name."""
    names = sorted(statuses.clients)[:MAX_CLIENTS]
    return [statuses.clients[name] for name in names]


def states(
    topics: Topics, statuses: Statuses, figures: Figures, stalled_after: float
) -> dict[str, bytes]:
    """Return the retained message of each topic, except the speeds.

    ``stalled_after`` is in seconds without a byte.
    """
    downloads = list(statuses.downloads.values())
    reasons = list(_reasons(statuses, figures, stalled_after))
    values = {
        topics.of("active"): _number(sum(map(is_active, downloads))),
        topics.of("paused"): _number(sum(d.phase is Phase.PAUSED for d in downloads)),
        topics.of("stalled"): _number(sum(has_stalled(d, stalled_after) for d in downloads)),
        topics.of("attention"): _on_off(bool(reasons)),
        topics.of("attention/attributes"): _attributes(
            count=len(reasons), reasons=reasons[:MAX_REASONS]
        ),
    }
    if figures.failed_today is not None:
        values[topics.of("failed_today")] = _number(figures.failed_today)
    if figures.last_event is not None:
        values[topics.of("last_event")] = short(figures.last_event).encode()
        values[topics.of("last_event/attributes")] = figures.last_event_attributes
    return values | _client_states(topics, statuses) | _app_states(topics, shown_apps(figures))


def _client_states(topics: Topics, statuses: Statuses) -> dict[str, bytes]:
    active = Counter(d.client for d in statuses.downloads.values() if is_active(d))
    paused = Counter(d.client for d in statuses.downloads.values() if d.phase is Phase.PAUSED)
    values: dict[str, bytes] = {}
    for client in shown_clients(statuses):
        client_id = safe_id(client.client)
        values |= {
            topics.of_client(client_id, "connected"): _on_off(client.reachable),
            topics.of_client(client_id, "connected/attributes"): _connection(client),
            topics.of_client(client_id, "active"): _number(active[client.client]),
            topics.of_client(client_id, "paused"): _number(paused[client.client]),
        }
    return values


def shown_apps(figures: Figures) -> list[AppState]:
    """Return the applications that become devices: those that were called once."""
    return [app for app in figures.apps or () if app.reachable is not None][:MAX_CLIENTS]


def _app_states(topics: Topics, apps: Iterable[AppState]) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    for app in apps:
        app_id = safe_id(app.name)
        values |= {
            topics.of_app(app_id, "connected"): _on_off(app.reachable),
            topics.of_app(app_id, "connected/attributes"): _app_connection(app),
        }
    return values


def speeds(topics: Topics, statuses: Statuses) -> dict[str, bytes]:
    """Return the download rate of each client and of all, in MB/s, by topic.

    An unreachable client has none: its last status is old.
    """
    rates: Counter[str] = Counter()
    for download in statuses.downloads.values():
        client = statuses.clients.get(download.client)
        if client is not None and client.reachable:
            rates[download.client] += download.download_rate
    values = {topics.of("speed"): _rate(rates.total())}
    for client in shown_clients(statuses):
        values[topics.of_client(safe_id(client.client), "speed")] = _rate(rates[client.client])
    return values


def is_active(download: DownloadStatus) -> bool:
    """Return whether a download is in progress, or waits for its turn."""
    return download.phase not in INACTIVE


def has_stalled(download: DownloadStatus, stalled_after: float) -> bool:
    """Return whether a download has received nothing for so many seconds."""
    return download.phase in TRANSFERRING and download.idle_for >= stalled_after


def short(text: str, limit: int = MAX_STATE) -> str:
    """Return text as one printable line of at most so many characters."""
    line = plain(text[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _reasons(statuses: Statuses, figures: Figures, stalled_after: float) -> Iterator[str]:
    """Yield what needs attention, in words."""
    for client in shown_clients(statuses):
        if not client.reachable:
            yield short(f"{client.client} is unreachable" + _because(client.reason, client.message))
        elif client.warning:
            yield short(f"{client.client}: {client.warning}")
    for app in shown_apps(figures):
        if not app.reachable:
            yield short(f"{app.name} is unreachable" + _because(app.reason, app.error_message))
    if figures.dead_letters:
        yield f"{figures.dead_letters} dead letters: see mediabus dead list"
    yield from _download_reasons(statuses.downloads.values(), stalled_after)


def _because(reason: str | None, message: str | None) -> str:
    why = reason_text(reason) if reason else message
    return f": {why}" if why else ""


def _download_reasons(downloads: Iterable[DownloadStatus], stalled_after: float) -> Iterator[str]:
    for download in downloads:
        if download.phase is Phase.FAILED:
            yield short(f"{short(download.title, 150)} failed in {download.client}")
        elif has_stalled(download, stalled_after):
            yield short(f"{short(download.title, 150)} has stalled in {download.client}")


def _connection(client: ClientStatus) -> bytes:
    texts = {
        "kind": client.kind,
        "version": client.version,
        "reason": client.reason,
        "message": client.message,
        "warning": client.warning,
    }
    return _connection_of(texts, client.since)


def _app_connection(app: AppState) -> bytes:
    texts = {
        "kind": app.kind,
        "version": app.version,
        "reason": app.reason,
        "message": app.error_message,
    }
    return _connection_of(texts, app.since)


def _connection_of(texts: Mapping[str, str | None], since: datetime.datetime | None) -> bytes:
    shown = {key: short(text) for key, text in texts.items() if text}
    return _attributes(**shown, since=since.isoformat() if since else None)


def _attributes(**values: Any) -> bytes:  # noqa: ANN401 - JSON
    return msgspec.json.encode(values)


def _number(value: int) -> bytes:
    return str(value).encode()


def _rate(bytes_per_second: int) -> bytes:
    return f"{bytes_per_second / 1e6:.2f}".encode()


def _on_off(value: object) -> bytes:
    return b"ON" if value else b"OFF"
