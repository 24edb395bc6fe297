"""The filters of the activity, as the query string of a page has them."""

import datetime
from collections.abc import Mapping
from typing import Any, Final, get_args
from urllib.parse import urlencode

import msgspec

from mediabus.api.moments import moment_from
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Severity

SEVERITIES: Final = get_args(Severity)
LONGEST: Final = 300
"""Characters of a filter."""


class Filters(msgspec.Struct, frozen=True):
    """The events that a page shows, as the query string has it. Empty texts do not filter."""

    category: str = ""
    type: str = ""
    severity: str = ""
    actor: str = ""
    """``user:anna``, ``user:``, ``:anna``, or ``anna``."""

    client: str = ""
    resource: str = ""
    """``media_item:ID``, ``media_item:``, or ``ID``."""

    text: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filters":
        """Read a query string. Raises InvalidFilter."""
        filters = cls(
            **{name: query.get(name, "").strip()[:LONGEST] for name in cls.__struct_fields__}
        )
        filters.request()
        return filters

    def query(self, **others: str) -> str:
        """Return the query string, with other parameters."""
        given = {**msgspec.structs.asdict(self), **others}
        return urlencode({name: value for name, value in given.items() if value})

    @property
    def is_empty(self) -> bool:
        """Whether every event passes."""
        return not any(msgspec.structs.astuple(self))

    @property
    def is_open(self) -> bool:
        """Whether events that happen now may pass."""
        return not self.until

    def request(self) -> dict[str, Any]:
        """Return the arguments of ``history.list``. Raises InvalidFilter."""
        if self.severity and self.severity not in SEVERITIES:
            raise InvalidFilter("severity", f"Use one of {', '.join(SEVERITIES)}.")
        actor_type, actor_id = _pair(self.actor)
        resource_type, resource_id = _pair(self.resource)
        given = {
            "category": self.category,
            "type": self.type,
            "severity": self.severity,
            "actor_type": actor_type,
            "actor_id": actor_id,
            "resource_type": resource_type,
            "resource_id": resource_id,
            "client": self.client,
            "title": self.text,
            "since": _moment("since", self.since),
            "until": _moment("until", self.until),
        }
        return {name: value for name, value in given.items() if value}

    def matches(self, envelope: Envelope) -> bool:
        """Return whether an event that happens now passes."""
        actor, resource = envelope.actor, envelope.resource
        actor_type, actor_id = _pair(self.actor)
        resource_type, resource_id = _pair(self.resource)
        pairs = (
            (self.category, envelope.category),
            (self.type, envelope.type),
            (self.severity, envelope.severity),
            (actor_type, actor.type if actor else None),
            (actor_id, actor.id if actor else None),
            (resource_type, resource.type if resource else None),
            (resource_id, resource.id if resource else None),
        )
        if any(wanted and wanted != found for wanted, found in pairs):
            return False
        return not (self.client or self.text) or self._matches_data(envelope)

    def _matches_data(self, envelope: Envelope) -> bool:
        try:
            fields = envelope.fields()
        except msgspec.DecodeError:
            return False
        if self.client and fields.get("client") != self.client:
            return False
        title = str(fields.get("media_title") or fields.get("title") or "")
        return self.text.lower() in title.lower()


class InvalidFilter(Exception):
    """A filter cannot be used. ``field`` is its name."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


def _pair(text: str) -> tuple[str, str]:
    """Split ``type:id``. Without a colon, the text is an id."""
    kind, colon, name = text.partition(":")
    return (kind, name) if colon else ("", text)


def _moment(field: str, text: str) -> datetime.datetime | None:
    try:
        return moment_from(text) if text else None
    except ValueError as error:
        raise InvalidFilter(field, f"{str(error).capitalize()}.") from error
