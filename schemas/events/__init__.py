"""Every event type, and the registry of them by name."""

from typing import Final, get_args

from schemas.events.base import Category, Event, Severity
from schemas.events.clients import (
    DownloadClientEvent,
    DownloadClientRecovered,
    DownloadClientUnreachable,
)
from schemas.events.downloads import (
    DownloadCancelled,
    DownloadCompleted,
    DownloadDiscovered,
    DownloadEvent,
    DownloadFailed,
    DownloadInitiated,
    DownloadPaused,
    DownloadRecovered,
    DownloadRemoved,
    DownloadResumed,
    DownloadStalled,
)
from schemas.events.media import (
    MediaEvent,
    MediaFileImported,
    MediaItemAdded,
    MediaItemEpisodesRefreshed,
    MediaItemMonitoringChanged,
    MediaItemRemoved,
    MediaItemUpdated,
    MediaType,
)
from schemas.events.system import JobExecuted, JobFailed, SystemEvent

EVENT_TYPES: Final[dict[str, type[Event]]] = {
    event_class.type: event_class
    for union in (MediaEvent, DownloadEvent, DownloadClientEvent, SystemEvent)
    for event_class in get_args(union)
}
"""The registered event types: a class named in a union is in here."""

__all__ = [
    "EVENT_TYPES",
    "Category",
    "DownloadCancelled",
    "DownloadClientRecovered",
    "DownloadClientUnreachable",
    "DownloadCompleted",
    "DownloadDiscovered",
    "DownloadFailed",
    "DownloadInitiated",
    "DownloadPaused",
    "DownloadRecovered",
    "DownloadRemoved",
    "DownloadResumed",
    "DownloadStalled",
    "Event",
    "JobExecuted",
    "JobFailed",
    "MediaFileImported",
    "MediaItemAdded",
    "MediaItemEpisodesRefreshed",
    "MediaItemMonitoringChanged",
    "MediaItemRemoved",
    "MediaItemUpdated",
    "MediaType",
    "Severity",
]
