"""Seerr: requests and issues. Its webhook has no id, and all its numbers are strings."""

from typing import Any, ClassVar, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from mediabus.schemas.events import (
    Event,
    IssueCommented,
    IssueCreated,
    IssueReopened,
    IssueResolved,
    RequestApproved,
    RequestAvailable,
    RequestCreated,
    RequestDeclined,
    RequestFailed,
)
from mediabus.schemas.events.media import MediaType
from mediabus.schemas.identity import Actor, Resource
from mediabus.service.apps.port import Fact, UnknownWebhook, Webhook
from mediabus.service.apps.settings import AppSettings

REQUESTS: Final[dict[str, tuple[type[Event], ...]]] = {
    "MEDIA_PENDING": (RequestCreated,),
    "MEDIA_AUTO_REQUESTED": (RequestCreated,),
    "MEDIA_AUTO_APPROVED": (RequestCreated, RequestApproved),  # Seerr sends no MEDIA_PENDING
    "MEDIA_APPROVED": (RequestApproved,),
    "MEDIA_DECLINED": (RequestDeclined,),
    "MEDIA_AVAILABLE": (RequestAvailable,),
    "MEDIA_FAILED": (RequestFailed,),
}
ISSUES: Final[dict[str, type[Event]]] = {
    "ISSUE_CREATED": IssueCreated,
    "ISSUE_COMMENT": IssueCommented,
    "ISSUE_RESOLVED": IssueResolved,
    "ISSUE_REOPENED": IssueReopened,
}
ONCE: Final = {RequestCreated, RequestApproved, RequestDeclined, RequestAvailable, IssueCreated}
"""What happens once to a request or an issue, so its id can be derived."""

MEDIA_TYPES: Final[dict[str, MediaType]] = {"movie": "movie", "tv": "tv_show"}

NAMESPACE: Final = uuid5(NAMESPACE_URL, "mediabus:seerr")


class Media(msgspec.Struct):
    """The movie or series."""

    media_type: str
    tmdb_id: str | None = msgspec.field(default=None, name="tmdbId")
    tvdb_id: str | None = msgspec.field(default=None, name="tvdbId")


class Request(msgspec.Struct):
    """Who asked."""

    request_id: str
    requested_by: str = msgspec.field(name="requestedBy_username")


class Issue(msgspec.Struct):
    """A reported problem."""

    issue_id: str
    reported_by: str | None = msgspec.field(default=None, name="reportedBy_username")


class Comment(msgspec.Struct):
    """A comment on an issue."""

    text: str | None = msgspec.field(default=None, name="comment_message")
    author: str | None = msgspec.field(default=None, name="commentedBy_username")


class Notification(msgspec.Struct):
    """The body of Seerr's own template. A section is null if it does not apply."""

    notification_type: str
    subject: str = ""
    event: str = ""
    message: str = ""
    media: Media | None = None
    request: Request | None = None
    issue: Issue | None = None
    comment: Comment | None = None


class SeerrSettings(AppSettings, frozen=True, kw_only=True, tag="seerr"):
    """A Seerr, Jellyseerr or Overseerr server."""

    program: ClassVar[str] = "Seerr"
    api: ClassVar[str] = "api/v1"
    status: ClassVar[str] = "status"
    has_history: ClassVar[bool] = False

    def read_webhook(self, body: dict[str, Any]) -> Webhook:
        kind = body.get("notification_type")
        if not isinstance(kind, str):
            raise UnknownWebhook(None, "notification_type is missing")
        if kind == "TEST_NOTIFICATION":
            return Webhook(kind)
        try:
            notification = msgspec.convert(body, Notification, strict=False)
        except msgspec.ValidationError as error:
            raise UnknownWebhook(kind, str(error)) from error
        if kind in REQUESTS:
            return Webhook(kind, _requests(self.name, notification))
        if kind in ISSUES:
            return Webhook(kind, (_issue(self.name, notification),))
        raise UnknownWebhook(kind, f"notification_type {kind!r} is unknown")


def _requests(app: str, notification: Notification) -> tuple[Fact, ...]:
    kind, media, request = notification.notification_type, notification.media, notification.request
    if media is None or request is None or media.media_type not in MEDIA_TYPES:
        raise UnknownWebhook(kind, "media or request is missing")
    if not request.request_id or not request.requested_by:
        raise UnknownWebhook(kind, "request_id or requestedBy_username is empty")
    fields = {
        "title": notification.subject,
        "media_type": MEDIA_TYPES[media.media_type],
        "requested_by": request.requested_by,
        "request_id": request.request_id,
        "app": app,
        "tmdb_id": _number(media.tmdb_id),
        "tvdb_id": _number(media.tvdb_id),
        "is_4k": "4K" in notification.event.split(),
    }
    resource = Resource("request", f"{app}/{request.request_id}")
    facts = []
    for event_class in REQUESTS[kind]:
        extra = {"message": notification.message or None} if event_class is RequestFailed else {}
        requester = request.requested_by if event_class is RequestCreated else None
        facts.append(_fact(app, event_class(**fields, **extra), resource, requester))
    return tuple(facts)


def _issue(app: str, notification: Notification) -> Fact:
    kind, issue = notification.notification_type, notification.issue
    if issue is None or not issue.issue_id:
        raise UnknownWebhook(kind, "issue_id is missing")
    fields: dict[str, Any] = {
        "title": notification.subject,
        "issue_id": issue.issue_id,
        "app": app,
        "reported_by": issue.reported_by or None,
        "message": notification.message or None,
    }
    person = issue.reported_by if kind == "ISSUE_CREATED" else None
    if kind == "ISSUE_COMMENT" and notification.comment:
        person = notification.comment.author
        fields |= {"comment": notification.comment.text or None, "commented_by": person or None}
    event = ISSUES[kind](**fields)
    return _fact(app, event, Resource("issue", f"{app}/{issue.issue_id}"), person)


def _fact(app: str, event: Event, resource: Resource, person: str | None) -> Fact:
    return Fact(
        event,
        resource,
        Actor("user", person) if person else Actor("system", app),
        id=_id(event.type, str(resource)) if type(event) in ONCE else None,
        correlation_id=str(_id("story", str(resource))),
    )


def _id(*parts: str) -> UUID:
    return uuid5(NAMESPACE, "|".join(parts))


def _number(text: str | None) -> int | None:
    """Return an id that Seerr writes as text, empty if there is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None
