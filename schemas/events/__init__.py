"""All event types, and the registry that maps a name to its type."""

from typing import Final, get_args

from mediabus.schemas.events.base import Category as Category
from mediabus.schemas.events.base import Event as Event
from mediabus.schemas.events.base import Severity as Severity
from mediabus.schemas.events.clients import *  # noqa: F403 - every event type, also new ones
from mediabus.schemas.events.clients import DownloadClientEvent
from mediabus.schemas.events.downloads import *  # noqa: F403 - as above
from mediabus.schemas.events.downloads import DownloadEvent
from mediabus.schemas.events.health import *  # noqa: F403 - as above
from mediabus.schemas.events.health import HealthEvent
from mediabus.schemas.events.imports import *  # noqa: F403 - as above
from mediabus.schemas.events.imports import ImportEvent
from mediabus.schemas.events.media import *  # noqa: F403 - as above
from mediabus.schemas.events.media import MediaEvent
from mediabus.schemas.events.notifications import *  # noqa: F403 - as above
from mediabus.schemas.events.notifications import NotificationEvent
from mediabus.schemas.events.releases import *  # noqa: F403 - as above
from mediabus.schemas.events.releases import ReleaseEvent
from mediabus.schemas.events.requests import *  # noqa: F403 - as above
from mediabus.schemas.events.requests import RequestEvent
from mediabus.schemas.events.system import *  # noqa: F403 - as above
from mediabus.schemas.events.system import SystemEvent

EVENT_TYPES: Final[dict[str, type[Event]]] = {
    event_class.type: event_class
    for union in (
        MediaEvent,
        DownloadEvent,
        ReleaseEvent,
        ImportEvent,
        DownloadClientEvent,
        SystemEvent,
        NotificationEvent,
        HealthEvent,
        RequestEvent,
    )
    for event_class in get_args(union) or (union,)
}
"""The registered event types by name: all members of the unions above."""
