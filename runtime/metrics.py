"""What is counted: one place for the names, so that dashboards can rely on them."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

OPERATIONS: Final = Counter(
    "mediabus_operations_total", "Operations by name and outcome", ["operation", "outcome"]
)
OPERATION_SECONDS: Final = Histogram(
    "mediabus_operation_seconds", "How long an operation took", ["operation"]
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
TRANSITIONS: Final = Counter(
    "mediabus_download_transitions_total", "Events of the monitor by type", ["type"]
)
CLIENT_REACHABLE: Final = Gauge(
    "mediabus_download_client_reachable", "1 while a download client answers", ["client"]
)
