"""Events about messages to notification targets. They notify no target themselves."""

from typing import ClassVar

from mediabus.schemas.events.base import Category, Event, Icon, Severity


class _NotificationEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A target of ``[[notify]]``; ``target`` is its name."""

    category: ClassVar[Category] = "system"

    target: str


class _DeliveryEvent(_NotificationEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A message about the events ``event_ids``, sent for the ``attempts``-th time."""

    event_ids: list[str]
    attempts: int


class NotificationDelivered(_DeliveryEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A target accepted a message; ``answer`` is what it answered."""

    type = "notification.delivered"
    icon: ClassVar[Icon] = "bell"
    sentence: ClassVar[str] = "{target} was notified[ of {event_ids}]"

    answer: str | None = None


class NotificationFailed(_DeliveryEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A message was not delivered; without ``retry_in_seconds`` it is in the dead letters."""

    type = "notification.failed"
    severity: ClassVar[Severity] = "warning"
    icon: ClassVar[Icon] = "alert"
    sentence: ClassVar[str] = (
        "{target} could not be notified[: {why}][, next attempt in {retry_in_seconds}]"
    )

    error_message: str | None = None
    retry_in_seconds: float | None = None


class NotificationTargetFailing(_NotificationEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A target failed ``failures`` times in succession; its messages wait for it."""

    type = "notification.target_failing"
    severity: ClassVar[Severity] = "error"
    icon: ClassVar[Icon] = "alert"
    sentence: ClassVar[str] = "Notifications to {target} fail[: {why}]"

    failures: int
    error_message: str | None = None


class NotificationTargetRecovered(
    _NotificationEvent, frozen=True, kw_only=True, omit_defaults=True
):
    """A failing target accepts messages again, after ``away_seconds`` seconds."""

    type = "notification.target_recovered"
    icon: ClassVar[Icon] = "bell"
    sentence: ClassVar[str] = "Notifications to {target} arrive again[ after {away_seconds}]"

    away_seconds: float | None = None


NotificationEvent = (
    NotificationDelivered
    | NotificationFailed
    | NotificationTargetFailing
    | NotificationTargetRecovered
)
