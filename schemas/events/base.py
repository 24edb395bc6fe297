"""What every event type is made of."""

from typing import ClassVar, Literal

import msgspec

Severity = Literal["info", "warning", "error"]
Category = Literal["media", "downloads", "system"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. A subclass names it and types its data; its fields are the
    ``data`` of the CloudEvents envelope, so a field once published is never renamed."""

    category: ClassVar[Category]
    type: ClassVar[str]
    """``<resource>.<action>``, in the past tense."""
    version: ClassVar[int] = 1
    severity: ClassVar[Severity] = "info"
