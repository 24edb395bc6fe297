"""mediabus: the event backbone of a self-hosted media library.

Connect, call operations, publish events and subscribe to them:

>>> import mediabus
>>> async with mediabus.connect(actor=mediabus.Actor("user", "42")) as bus:
...     arrival = await bus.media.create(title="Arrival", year=2016)
...     async for envelope in bus.events("events.media.>", since="1h", follow=False):
...         print(envelope.type)

The names in ``__all__`` are the public API. Everything else may change in any release.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mediabus.api.bus import Bus, connect
    from mediabus.api.errors import NoAnswer, OperationFailed
    from mediabus.consumers.consume import consume
    from mediabus.consumers.verdict import Rejected, RetryLater, RetryPolicy
    from mediabus.runtime.nats.bus import CannotConnect, PublishFailed
    from mediabus.runtime.settings import SettingsError
    from mediabus.schemas import events, subjects
    from mediabus.schemas.codec import InvalidEvent
    from mediabus.schemas.envelope import Envelope
    from mediabus.schemas.identity import Actor, Resource

    __version__: str

__all__ = [
    "Actor",
    "Bus",
    "CannotConnect",
    "Envelope",
    "InvalidEvent",
    "NoAnswer",
    "OperationFailed",
    "PublishFailed",
    "Rejected",
    "Resource",
    "RetryLater",
    "RetryPolicy",
    "SettingsError",
    "__version__",
    "connect",
    "consume",
    "events",
    "subjects",
]

_HOMES: Final = {
    "Actor": "mediabus.schemas.identity",
    "Bus": "mediabus.api.bus",
    "CannotConnect": "mediabus.runtime.nats.bus",
    "Envelope": "mediabus.schemas.envelope",
    "InvalidEvent": "mediabus.schemas.codec",
    "NoAnswer": "mediabus.api.errors",
    "OperationFailed": "mediabus.api.errors",
    "PublishFailed": "mediabus.runtime.nats.bus",
    "Rejected": "mediabus.consumers.verdict",
    "Resource": "mediabus.schemas.identity",
    "RetryLater": "mediabus.consumers.verdict",
    "RetryPolicy": "mediabus.consumers.verdict",
    "SettingsError": "mediabus.runtime.settings",
    "connect": "mediabus.api.bus",
    "consume": "mediabus.consumers.consume",
    "events": "mediabus.schemas",
    "subjects": "mediabus.schemas",
}
"""Where each public name is defined. Names are imported at their first use, so that
`mediabus --help` does not wait for NATS and PostgreSQL libraries to load."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module, a class or a function
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("mediabus")
    if name not in _HOMES:
        raise AttributeError(f"module 'mediabus' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    if name in {"events", "subjects"}:
        return importlib.import_module(f"{_HOMES[name]}.{name}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
