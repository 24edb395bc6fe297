"""Events about what people ask the library for, and what they report as broken."""

from typing import ClassVar

from mediabus.schemas.events.base import Category, Event, Icon, Severity
from mediabus.schemas.events.media import MediaType


class _RequestEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A request for a movie or a TV show; ``request_id`` is its id in the application."""

    category: ClassVar[Category] = "requests"

    title: str
    media_type: MediaType
    requested_by: str
    request_id: str
    app: str | None = None
    tmdb_id: int | None = None
    tvdb_id: int | None = None
    is_4k: bool = False


class RequestCreated(_RequestEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A movie or a TV show was requested."""

    type = "request.created"
    icon: ClassVar[Icon] = "request"
    sentence: ClassVar[str] = "{requested_by} requested {name}"


class RequestApproved(_RequestEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A request was approved, by a person or by a rule."""

    type = "request.approved"
    icon: ClassVar[Icon] = "check"
    sentence: ClassVar[str] = "The request of {requested_by} for {name} was approved"


class RequestDeclined(_RequestEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A request was declined."""

    type = "request.declined"
    icon: ClassVar[Icon] = "cross"
    sentence: ClassVar[str] = "The request of {requested_by} for {name} was declined"


class RequestAvailable(_RequestEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What was requested is in the library."""

    type = "request.available"
    icon: ClassVar[Icon] = "play"
    sentence: ClassVar[str] = "{name}, requested by {requested_by}, is available"


class RequestFailed(_RequestEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A request could not be passed on to the application that downloads."""

    type = "request.failed"
    severity: ClassVar[Severity] = "error"
    icon: ClassVar[Icon] = "cross"
    sentence: ClassVar[str] = "The request of {requested_by} for {name} failed[: {message}]"

    message: str | None = None


class _IssueEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A problem that a person reported; ``issue_id`` is its id in the application."""

    category: ClassVar[Category] = "requests"

    title: str
    issue_id: str
    app: str | None = None
    reported_by: str | None = None
    message: str | None = None


class IssueCreated(_IssueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A person reported a problem with a movie or a TV show."""

    type = "issue.created"
    severity: ClassVar[Severity] = "warning"
    icon: ClassVar[Icon] = "alert"
    sentence: ClassVar[str] = "[{reported_by} reported ]a problem with {name}[: {message}]"


class IssueCommented(_IssueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A person commented on a reported problem."""

    type = "issue.commented"
    icon: ClassVar[Icon] = "edit"
    sentence: ClassVar[str] = "[{commented_by} commented on ]the problem with {name}[: {comment}]"

    comment: str | None = None
    commented_by: str | None = None


class IssueResolved(_IssueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A reported problem was marked as resolved."""

    type = "issue.resolved"
    icon: ClassVar[Icon] = "check"
    sentence: ClassVar[str] = "The problem with {name} was resolved"


class IssueReopened(_IssueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A resolved problem was opened again."""

    type = "issue.reopened"
    severity: ClassVar[Severity] = "warning"
    icon: ClassVar[Icon] = "refresh"
    sentence: ClassVar[str] = "The problem with {name} was reopened"


RequestEvent = (
    RequestCreated
    | RequestApproved
    | RequestDeclined
    | RequestAvailable
    | RequestFailed
    | IssueCreated
    | IssueCommented
    | IssueResolved
    | IssueReopened
)
