"""All metrics. Their names are stable, because dashboards depend on them."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

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
APP_REACHABLE: Final = Gauge("mediabus_app_reachable", "1 while an application answers", ["app"])
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
OUTBOX_WAITING: Final = Gauge(
    "mediabus_outbox_waiting", "Outbox rows whose event is not yet in the events table"
)
CONSUMED: Final = Counter(
    "mediabus_consumed_total", "Messages by consumer and verdict", ["consumer", "verdict"]
)
EVENTS_BEHIND: Final = Gauge(
    "mediabus_events_behind", "Events in the stream that the persisters have not stored yet"
)
PERSIST_SECONDS: Final = Histogram("mediabus_persist_batch_seconds", "How long a batch took")
STATUS_WRITTEN: Final = Counter(
    "mediabus_download_status_written_total", "Status changes put into the bucket", ["client"]
)
DOWNLOADS_SKIPPED: Final = Counter(
    "mediabus_downloads_skipped_total",
    "Downloads left out of what a client shows, as one without an id",
    ["client"],
)
TRANSITIONS: Final = Counter(
    "mediabus_download_transitions_total", "Events of the monitor by type", ["type"]
)
NOTIFICATIONS: Final = Counter(
    "mediabus_notifications_total", "Messages to targets by outcome", ["target", "outcome"]
)
CLIENT_REACHABLE: Final = Gauge(
    "mediabus_download_client_reachable", "1 while a download client answers", ["client"]
)
MQTT_CONNECTED: Final = Gauge("mediabus_mqtt_connected", "1 while the MQTT broker is connected")
MQTT_PUBLISHED: Final = Counter(
    "mediabus_mqtt_published_total", "Messages that the MQTT broker has confirmed", ["kind"]
)
MQTT_EVENTS_DROPPED: Final = Counter(
    "mediabus_mqtt_events_dropped_total",
    "Events not sent to MQTT, because the broker was unreachable for more than a minute",
)
