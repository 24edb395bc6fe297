"""All metrics. Their names are stable, because dashboards depend on them.

docs/metrics.md lists each with its type, labels and unit.
"""

import importlib.metadata
import platform
from typing import Final

from prometheus_client import Counter, Histogram, disable_created_metrics

from mediabus.runtime.measured import Measured

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter


def _version() -> str:
    try:
        return importlib.metadata.version("mediabus")
    except importlib.metadata.PackageNotFoundError:  # run from a folder, without installing
        return "unknown"


BUILD_INFO: Final = Measured(
    "mediabus_build_info", "1, with the version of mediabus and of Python", ["version", "python"]
)
BUILD_INFO.set(1, _version(), platform.python_version())
READY: Final = Measured("mediabus_ready", "1 while a check of /readyz passes", ["check"])

OPERATIONS: Final = Counter(
    "mediabus_operations_total", "Operations by name and outcome", ["operation", "outcome"]
)
OPERATION_SECONDS: Final = Histogram(
    "mediabus_operation_seconds", "How long an operation took", ["operation"]
)
REPLIES_REFUSED: Final = Counter(
    "mediabus_replies_refused_total", "Requests ignored because their reply subject is no inbox"
)
INGESTED: Final = Counter(
    "mediabus_events_ingested_total", "Events from the accounts of keys, by outcome", ["outcome"]
)
HTTP_EVENTS: Final = Counter(
    "mediabus_http_events_total", "Events of POST /events, by outcome", ["outcome"]
)
WEBHOOKS: Final = Counter(
    "mediabus_webhooks_total", "Webhooks of applications, by outcome", ["app", "outcome"]
)
APP_ROWS: Final = Counter(
    "mediabus_app_rows_total", "Rows read from the histories of applications, each once", ["app"]
)
APP_EVENTS: Final = Counter(
    "mediabus_app_events_total", "Events made from the history of an application", ["app"]
)
APP_REACHABLE: Final = Measured("mediabus_app_reachable", "1 while an application answers", ["app"])
APP_LAST_SUCCESS: Final = Measured(
    "mediabus_app_last_success_timestamp_seconds",
    "When an application was last read completely, in Unix time",
    ["app"],
)
APP_LAG: Final = Measured(
    "mediabus_app_lag_seconds",
    "Seconds from the date of the latest row of an application to its reading",
    ["app"],
)
NOT_RECORDED: Final = Counter(
    "mediabus_events_not_recorded_total",
    "Events that the outbox could not take: published directly",
)
NOT_MADE: Final = Counter(
    "mediabus_events_not_made_total", "Events that could neither be recorded nor published"
)
RELAYED: Final = Counter("mediabus_outbox_relayed_total", "Outbox events that NATS has stored")
RELAYED_AGAIN: Final = Counter(
    "mediabus_outbox_relayed_again_total", "Outbox events that NATS stored and lost"
)
OUTBOX_WAITING: Final = Measured(
    "mediabus_outbox_waiting", "Outbox rows whose event is not yet in the events table"
)
OUTBOX_OLDEST: Final = Measured(
    "mediabus_outbox_oldest_unpublished_seconds",
    "Age of the oldest outbox row that NATS has not stored; 0 without such a row",
)
CONSUMED: Final = Counter(
    "mediabus_consumed_total", "Messages by consumer and verdict", ["consumer", "verdict"]
)
CONSUMER_LAG: Final = Measured(
    "mediabus_consumer_lag",
    "Messages that a durable consumer has not acknowledged, delivered or not",
    ["stream", "consumer"],
)
DEAD_LETTERS: Final = Measured(
    "mediabus_dead_letters", "Dead letters of each consumer", ["consumer"]
)
EVENTS_BEHIND: Final = Measured(
    "mediabus_events_behind", "Events in the stream that the persisters have not stored yet"
)
PERSIST_SECONDS: Final = Histogram("mediabus_persist_batch_seconds", "How long a batch took")
STATUS_WRITTEN: Final = Counter(
    "mediabus_download_status_written_total", "Status changes put into the bucket", ["client"]
)
DOWNLOADS: Final = Measured(
    "mediabus_downloads", "Downloads that a client lists, by phase", ["client", "phase"]
)
DOWNLOAD_RATE: Final = Measured(
    "mediabus_download_bytes_per_second", "The rate of all downloads of a client", ["client"]
)
DOWNLOADS_SKIPPED: Final = Counter(
    "mediabus_downloads_skipped_total",
    "Downloads left out of what a client shows, as one without an id",
    ["client"],
)
TRANSITIONS: Final = Counter(
    "mediabus_download_transitions_total", "Events of the monitor by type", ["type"]
)
CLIENT_REACHABLE: Final = Measured(
    "mediabus_download_client_reachable", "1 while a download client answers", ["client"]
)
NOTIFICATIONS: Final = Counter(
    "mediabus_notifications_total",
    "Attempts to send a message: delivered, retried later, or failed for good",
    ["target", "outcome"],
)
NOTIFY_RETRYING: Final = Measured(
    "mediabus_notify_retrying", "Events whose message waits for its next attempt", ["target"]
)
NOTIFY_FAILING: Final = Measured(
    "mediabus_notify_failing", "1 while a target fails: three attempts in succession", ["target"]
)
MQTT_CONNECTED: Final = Measured("mediabus_mqtt_connected", "1 while the MQTT broker is connected")
MQTT_PUBLISHED: Final = Counter(
    "mediabus_mqtt_published_total", "Messages that the MQTT broker has confirmed", ["kind"]
)
MQTT_EVENTS_DROPPED: Final = Counter(
    "mediabus_mqtt_events_dropped_total",
    "Events not sent to MQTT, because the broker was unreachable for more than a minute",
)

NAMED: Final[dict[str, tuple[Counter | Measured, ...]]] = {
    "client": (STATUS_WRITTEN, DOWNLOADS, DOWNLOAD_RATE, DOWNLOADS_SKIPPED, CLIENT_REACHABLE),
    "app": (WEBHOOKS, APP_ROWS, APP_EVENTS, APP_REACHABLE, APP_LAST_SUCCESS, APP_LAG),
    "target": (NOTIFICATIONS, NOTIFY_RETRYING, NOTIFY_FAILING),
}
"""The metrics with a label for a name of the settings."""


def forget(label: str, name: str) -> None:
    """Remove all series of a client, an application or a target that this process leaves.

    It has left the settings, or another process has its lease.
    """
    for metric in NAMED[label]:
        metric.remove_by_labels({label: name})
