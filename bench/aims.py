"""The performance aims, in one table. Sections define the names of figures."""

import dataclasses
from typing import Final, Literal


@dataclasses.dataclass(frozen=True)
class Aim:
    """``figure``, or its ratio to ``against``, must be ``at least`` or ``at most`` ``value``."""

    section: str
    text: str
    figure: str
    relation: Literal["at least", "at most"]
    value: float
    unit: str = ""
    against: str | None = None

    @property
    def wanted(self) -> str:
        """The value as text."""
        unit = " x" if self.against else f" {self.unit}".rstrip()
        return f"{'≥' if self.relation == 'at least' else '≤'} {self.value:,g}{unit}"

    def is_met_by(self, reached: float) -> bool:
        """Return whether a value reaches the aim."""
        return reached >= self.value if self.relation == "at least" else reached <= self.value


ROW: Final = "stream to row"
REPLY: Final = "operation to reply"
VISIBLE: Final = "operation to row visible"
RELAY: Final = "relay"
HISTORY: Final = "history"
MONITOR: Final = "monitor"
START: Final = "start-up"
WEB: Final = "web"

ONE: Final = "mediabus, one persister"
TWO: Final = "mediabus, two persisters"
CEILING: Final = "COPY without NATS, one connection"
FASTSTREAM: Final = "FastStream, batches and executemany"
SINKS: Final = "nats-sinks, batches and executemany"
BRIDGE_INSERT: Final = "mq-bridge, INSERT ON CONFLICT, 4 writers"
BRIDGE_COPY: Final = "mq-bridge, COPY (not idempotent), 4 writers"
NAIVE: Final = "nats-py, one by one"

AIMS: Final = (
    Aim(ROW, "one persister / the ceiling", ONE, "at least", 0.9, against=CEILING),
    Aim(ROW, "… / FastStream", ONE, "at least", 4.5, against=FASTSTREAM),
    Aim(ROW, "… / nats-sinks", ONE, "at least", 4.5, against=SINKS),
    Aim(ROW, "… / code for each message", ONE, "at least", 25, against=NAIVE),
    Aim(ROW, "… / mq-bridge, the same promise", ONE, "at least", 2, against=BRIDGE_INSERT),
    Aim(ROW, "… / mq-bridge, COPY", ONE, "at least", 1, against=BRIDGE_COPY),
    Aim(ROW, "two persisters / mq-bridge, COPY", TWO, "at least", 1.2, against=BRIDGE_COPY),
    *(
        aim
        for many in (8, 64)
        for aim in (
            Aim(REPLY, f"p50, {many} in flight, with / without event",
                f"with its event, {many} in flight, p50", "at most", 1.1,
                against=f"without any event, {many} in flight, p50"),
            Aim(REPLY, f"operations/s, {many} in flight, with / without event",
                f"with its event, {many} in flight", "at least", 0.92,
                against=f"without any event, {many} in flight"),
        )
    ),
    Aim(VISIBLE, "p50 at 100/s", "at 100/s, p50", "at most", 8, "ms"),
    Aim(VISIBLE, "p99 at 100/s", "at 100/s, p99", "at most", 25, "ms"),
    Aim(VISIBLE, "p50 at 1,000/s", "at 1,000/s, p50", "at most", 12, "ms"),
    Aim(VISIBLE, "p99 at 1,000/s", "at 1,000/s, p99", "at most", 35, "ms"),
    Aim(RELAY, "drain", "mediabus, atomic batches", "at least", 30_000, "events/s"),
    Aim(HISTORY, "p99 of any page", "any page, p99", "at most", 5, "ms"),
    Aim(HISTORY, "p99 of a resource's page", "page of a resource, p99", "at most", 4, "ms"),
    Aim(HISTORY, "p99 of any page / that of the small table", "any page, p99", "at most", 1.5,
        against="any page of the small table, p99"),
    Aim(HISTORY, "retention of a month", "a month dropped", "at most", 1000, "ms"),
    Aim(WEB, "server time, p95", "any page: server time, p95", "at most", 100, "ms"),
    Aim(WEB, "first paint", "/activity: first paint", "at most", 300, "ms"),
    Aim(WEB, "weight of a page", "any page: weight, gzipped", "at most", 60, "kB"),
    Aim(WEB, "CPU of 200 open pages", "200 open pages, 10 events/s: CPU", "at most", 5,
        "% of a core"),
    Aim(WEB, "memory of an open page", "an open page: memory", "at most", 1, "MB"),
    Aim(WEB, "event to screen, p99", "event to screen, p99", "at most", 150, "ms"),
    Aim(START, "mediabus --help", "mediabus --help", "at most", 150, "ms"),
)  # fmt: skip
