"""Envelopes of events about an application itself."""

from typing import Any, Final

import msgspec

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Event
from mediabus.schemas.fitting import fitted
from mediabus.schemas.identity import Actor, Resource

IMPORTED: Final[dict[str, Any]] = {"imported": True}
"""The CloudEvents extension attribute of what happened before the first contact."""


def app_event(app: str, event: Event) -> Envelope:
    """Return the envelope of an event that happens now; the application is actor and resource."""
    envelope = Envelope.of(fitted(event), actor=Actor("system", app), resource=Resource("app", app))
    return msgspec.structs.replace(envelope, source=f"mediabus/{app}")
