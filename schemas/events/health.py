"""Events about the applications that mediabus reads: their health, updates, unknown messages."""

from typing import Any, ClassVar

from mediabus.schemas.events.base import Category, Event, Icon, Severity
from mediabus.schemas.status import UnreachableReason


class _AppEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An application of ``[[apps]]``; ``app`` is its name in the settings."""

    category: ClassVar[Category] = "system"

    app: str


class _HealthEvent(_AppEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A health check of an application; ``level`` is the application's own word."""

    check: str
    message: str
    level: str
    wiki_url: str | None = None


class HealthDegraded(_HealthEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A health check of an application failed."""

    type = "health.degraded"
    severity: ClassVar[Severity] = "warning"
    icon: ClassVar[Icon] = "alert"
    sentence: ClassVar[str] = "{app} reports: {message}"


class HealthRecovered(_HealthEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A failed health check succeeded again; ``message`` and ``level`` are those of the failure."""

    type = "health.recovered"
    icon: ClassVar[Icon] = "check"
    sentence: ClassVar[str] = "{app} no longer reports: {message}"

    away_seconds: float | None = None


class ApplicationUpdated(_AppEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An application was updated to a new version."""

    type = "application.updated"
    icon: ClassVar[Icon] = "refresh"
    sentence: ClassVar[str] = "{app} was updated[ from {previous_version}] to {new_version}"

    new_version: str
    previous_version: str | None = None


class AppUnknownEvent(_AppEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An application sent a webhook that mediabus does not know; ``body`` is what it sent.

    ``event_type`` is the kind that the webhook names. ``body`` is missing if it is too large for
    an event; ``omitted_bytes`` is then its size.
    """

    type = "app.unknown_event"
    icon: ClassVar[Icon] = "event"
    sentence: ClassVar[str] = "{app} sent a webhook of an unknown kind[: {event_type}]"

    event_type: str | None = None
    reason: str | None = None
    body: dict[str, Any] | None = None
    omitted_bytes: int | None = None


class AppUnreachable(_AppEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An application has been unreachable for a while."""

    type = "app.unreachable"
    severity: ClassVar[Severity] = "error"
    icon: ClassVar[Icon] = "unplug"
    sentence: ClassVar[str] = "{app} is unreachable[: {why}]"

    reason: UnreachableReason | None = None
    error_message: str | None = None


class AppRecovered(_AppEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An unreachable application answers again, after ``away_seconds`` seconds."""

    type = "app.recovered"
    icon: ClassVar[Icon] = "plug"
    sentence: ClassVar[str] = "{app} answers again[ after {away_seconds}]"

    away_seconds: float | None = None


HealthEvent = (
    AppUnreachable
    | AppRecovered
    | HealthDegraded
    | HealthRecovered
    | ApplicationUpdated
    | AppUnknownEvent
)
