"""Measure how fast mediabus and its peers store events, compared with the ceiling.

The stream is filled once. Then each contender in turn drains it into the emptied table from a fresh
durable consumer with explicit acknowledgements. Its consumer is paused until all its processes have
requested messages. The clock runs from the end of the pause to the last acknowledgement.
"""

import contextlib
import datetime
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import NotFoundError

from bench import aims, cpu
from bench.peers import environment
from bench.peers.row import BATCH, row
from bench.report import Section
from bench.servers import Failed, Stack, event, mediabus, process, stack, until
from mediabus.consumers.daemon import MAX_UNACKNOWLEDGED, durable
from mediabus.schemas.subjects import EVENTS_STREAM, EVENTS_SUBJECTS
from mediabus.service.outbox.publish import MAX_BATCH_MESSAGES, Outgoing, publish_all

FLAT: Final = "FLAT"
"""The same events, flattened for mq-bridge, which binds only scalar fields: ``data`` is text."""


class Contender(NamedTuple):
    """A program that stores the events of the stream.

    ``commands`` are its processes. ``peer`` is the package that it needs; None for mediabus.
    ``one_in`` is 1, or larger for a slow contender, which stores one of that many events.
    """

    name: str
    commands: Sequence[tuple[str, ...]]
    durable: str
    peer: str | None = None
    stream: str = EVENTS_STREAM
    one_in: int = 1


def _script(name: str, *arguments: str) -> list[tuple[str, ...]]:
    return [(environment.PYTHON, "-m", f"bench.peers.{name}", *arguments)]


PERSIST: Final = mediabus("persist")
CONTENDERS: Final = (
    Contender(aims.ONE, [PERSIST], "persister"),
    Contender(aims.TWO, [PERSIST, PERSIST], "persister"),
    Contender(aims.FASTSTREAM, _script("faststream_batches"), "peer", "faststream"),
    Contender(aims.SINKS, _script("nats_sinks_batches"), "peer", "nats-sinks"),
    Contender(
        aims.BRIDGE_INSERT, _script("mq_bridge_route", "insert"),
        "mq-bridge-FLAT-flat-_all_", "mq-bridge", FLAT,
    ),
    Contender(
        aims.BRIDGE_COPY, _script("mq_bridge_route", "copy"),
        "mq-bridge-FLAT-flat-_all_", "mq-bridge", FLAT,
    ),
    Contender(aims.NAIVE, _script("naive"), "peer", "nats-py", one_in=20),
)  # fmt: skip
GUARDED: Final = (aims.ONE, aims.FASTSTREAM)


async def measure(
    events: int,
    runs: int,
    names: Sequence[str] = (),
    *,
    contenders: Sequence[Contender] = CONTENDERS,
) -> Section:
    """Measure all contenders, or the named ones, in turns."""
    section = Section(aims.ROW)
    chosen = [one for one in contenders if not names or one.name in names]
    missing = await environment.install(tuple({one.peer for one in chosen if one.peer}))
    for peer, reason in missing.items():
        section.note(f"{peer} could not be installed here, so it was not measured: {reason}")
    chosen = [one for one in chosen if one.peer not in missing]
    cost: dict[str, list[dict[str, float]]] = {}
    async with stack() as it:
        filled = [event() for _ in range(events)]
        await fill(it, filled)
        if any(one.stream == FLAT for one in chosen):
            await _fill_flat(it, filled)
        rows = [row(each.payload, place) for place, each in enumerate(filled, 1)]
        for _ in range(runs):
            if not names and contenders is CONTENDERS:
                section.add(aims.CEILING, "events/s", await _copy(it, rows))
            for contender in chosen:
                drained = await _drain(it, contender, events)
                section.add(contender.name, "events/s", drained.events_a_second)
                cost.setdefault(contender.name, []).append(drained.cost)
    _say(section, chosen, events, runs)
    say_cost(section, cost)
    return section


def _say(section: Section, chosen: Sequence[Contender], events: int, runs: int) -> None:
    section.note(f"{events:,} events of {len(event().payload)} bytes, {runs} runs in turns.")
    for contender in chosen:
        if contender.one_in > 1:
            section.note(f"{contender.name}: {events // contender.one_in:,} of them: it is slow.")
        if contender.stream == FLAT:
            section.note(
                "mq-bridge reads the same events flattened, with `data` as text: it binds no "
                "nested field. It does not store the stream's sequence."
            )


def say_cost(section: Section, cost: Mapping[str, Sequence[dict[str, float]]]) -> None:
    """Note the CPU time of an event in each process."""
    section.note("CPU an event, in µs (median of the runs):")
    for name, runs in cost.items():
        shares = [
            f"{kind} {statistics.median(run[kind] for run in runs):.1f}" for kind in cpu.KINDS
        ]
        section.note(f"{name}: {', '.join(shares)}.")


async def fill(it: Stack, events: Sequence[Outgoing]) -> None:
    """Publish events."""
    for start in range(0, len(events), MAX_BATCH_MESSAGES):
        await publish_all(it.bus, events[start : start + MAX_BATCH_MESSAGES])


async def _fill_flat(it: Stack, events: Sequence[Outgoing]) -> None:
    await it.bus.js.add_stream(StreamConfig(name=FLAT, subjects=["flat.>"], allow_atomic=True))
    await fill(it, [Outgoing(one.id, f"flat.{one.id}", _flat(one.payload)) for one in events])


def _flat(payload: bytes) -> bytes:
    event_id, moment, _, category, kind, severity, source, *who, _, _, data = row(payload, None)
    names = ("actor_type", "actor_id", "resource_type", "resource_id")
    return msgspec.json.encode(
        {
            "id": event_id,
            "occurred_at": moment,
            "category": category,
            "type": kind,
            "severity": severity,
            "source": source,
            **dict(zip(names, who, strict=True)),
            "data": data,
        }
    )


async def _empty(it: Stack) -> None:
    """Empty the table, and let PostgreSQL finish its pending writes."""
    await it.pool.execute("TRUNCATE events")
    await it.pool.execute("SELECT ensure_events_partition($1)", datetime.datetime.now(datetime.UTC))
    await it.pool.execute("CHECKPOINT")


async def _copy(it: Stack, rows: Sequence[tuple[Any, ...]]) -> float:
    """Return events per second of COPY over one connection, with a commit for each batch.

    This is the upper bound: it reads nothing from NATS, decodes nothing, and is not idempotent.
    """
    await _empty(it)
    connection = await asyncpg.connect(it.database_url)
    try:
        started = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            await connection.copy_records_to_table(
                "events", records=rows[start : start + BATCH], columns=COLUMNS
            )
        return len(rows) / (time.perf_counter() - started)
    finally:
        await connection.close()


COLUMNS: Final = (
    "id", "occurred_at", "stream_seq", "category", "type", "severity", "source", "actor_type",
    "actor_id", "resource_type", "resource_id", "correlation_id", "causation_id", "data",
)  # fmt: skip


class Drained(NamedTuple):
    """The result of a turn. ``cost`` has the µs of CPU per event, by kind of process."""

    events_a_second: float
    cost: dict[str, float]


async def _drain(it: Stack, contender: Contender, events: int) -> Drained:
    """Run the turn of one contender, and count the rows."""
    await _empty(it)
    drained = await drain(it, contender, events)
    todo = events // contender.one_in
    stored = await it.pool.fetchval("SELECT count(*) FROM events")
    if stored != todo:
        raise Failed(f"{contender.name}: {stored} rows of {todo} events")
    return drained


async def drain(it: Stack, contender: Contender, events: int) -> Drained:
    """Let a contender acknowledge the events of its stream."""
    todo = events // contender.one_in
    await _paused_consumer(it, contender, events - todo + 1)
    variables = {
        **it.environment,
        "NATS_URL": it.nats_url,
        "DATABASE_URL": it.database_url,
        "STREAM": contender.stream,
        "DURABLE": contender.durable,
    }
    async with contextlib.AsyncExitStack() as running:
        processes = [
            await running.enter_async_context(process(*command, environment=variables))
            for command in contender.commands
        ]

        async def is_ready() -> bool:
            if any(one.returncode is not None for one in processes):
                raise Failed(f"{contender.name} ended by itself")
            info = await it.bus.js.consumer_info(contender.stream, contender.durable)
            return (info.num_waiting or 0) >= len(processes)

        async def is_done() -> bool:
            info = await it.bus.js.consumer_info(contender.stream, contender.durable)
            return not info.num_pending and not info.num_ack_pending

        await until(is_ready, within=30)
        before = cpu.spent()
        started = await _let_go(it, contender)
        took = await until(is_done, every=0.01) - started
        cost = cpu.since(before, todo)
    return Drained(todo / took, cost)


async def _paused_consumer(it: Stack, contender: Contender, first: int) -> None:
    with contextlib.suppress(NotFoundError):
        await it.bus.js.delete_consumer(contender.stream, contender.durable)
    if contender.peer is None:
        config = durable(contender.durable)
    else:
        config = ConsumerConfig(
            durable_name=contender.durable,
            filter_subject="flat.>" if contender.stream == FLAT else EVENTS_SUBJECTS,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=30,
            max_ack_pending=MAX_UNACKNOWLEDGED,
        )
    if first > 1:
        config = config.evolve(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=first)
    paused = config.evolve(pause_until=_after(datetime.timedelta(minutes=5)))
    await it.bus.js.add_consumer(contender.stream, paused)


async def _let_go(it: Stack, contender: Contender) -> float:
    """End the pause. Return when it ended, by ``time.perf_counter``.

    Waiting requests notice at once that a pause expires, but not that it is lifted.
    """
    soon = datetime.timedelta(seconds=0.5)
    deadline, moment = _after(soon), time.perf_counter() + soon.total_seconds()
    await it.bus.js.pause_consumer(contender.stream, contender.durable, deadline)
    return moment


def _after(delay: datetime.timedelta) -> str:
    return (datetime.datetime.now(datetime.UTC) + delay).isoformat()
