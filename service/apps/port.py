"""What the files of the applications share: each translates webhooks into events.

To add an application, write a subclass of ``AppSettings`` in a file of its own and add it to
``AnyAppSettings`` in this package's ``__init__``.
"""

from typing import NamedTuple
from uuid import UUID

from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor, Resource


class Fact(NamedTuple):
    """An event that a webhook reports, and which the history of the application lacks."""

    event: Event
    resource: Resource
    actor: Actor
    id: UUID | None = None
    """The same for the same fact. None if the application may report an equal fact later."""
    correlation_id: str | None = None


class Removal(NamedTuple):
    """A series or movie that a webhook reports as removed, by its number in the application."""

    item: int
    files_deleted: bool


class Webhook(NamedTuple):
    """The content of a webhook. The history is read after every webhook."""

    kind: str
    facts: tuple[Fact, ...] = ()
    removal: Removal | None = None


class UnknownWebhook(Exception):
    """The webhook is of an unknown kind, or lacks a field of its kind."""

    def __init__(self, kind: str | None, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
