"""`mediabus replay`: the history made whole from the stream, or old events for one consumer."""

import asyncio
import contextlib
import datetime
import sys
import time
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID, uuid5

import asyncpg
import click
from nats.js.errors import NotFoundError

from consumers.daemon import Delivery
from consumers.past import Span, count, pages
from consumers.persister.store import NEWEST_ACCEPTED, EventStore
from schemas import codec
from schemas.envelope import Envelope
from schemas.identity import uuid7
from schemas.subjects import EVENTS_SUBJECTS, REPLAY_STREAM, replayed, subject_of
from service.cli.face import Face, Moment, note_a_slip
from service.cli.help import examples
from service.cli.output import local
from service.cli.problems import Unanswered
from service.cli.stream import read_stream
from service.outbox.batch import Outgoing, publish_all
from service.runtime.bus import Bus, PublishFailed
from service.runtime.database import Pool, open_pool

CONNECT_WITHIN: Final = 10.0
AT_A_TIME: Final = 500
MOST_BYTES: Final = 8_000_000


@click.command(
    epilog=examples(
        "mediabus replay --since 30d --dry-run              is anything missing in the history?",
        "mediabus replay --since 30d                        stores what is missing",
        "mediabus replay --since 2025-01-01 --to notifier   feeds old events to a consumer",
    )
)
@click.option("--since", type=Moment(), required=True, help="Events from then on: 2d, 2026-11-22.")
@click.option("--until", type=Moment(), help="Events before then; without it, before now.")
@click.option("--type", "event_type", metavar="TYPE", help="Only this event type.")
@click.option("--to", "consumer", metavar="NAME", help="Feed them to this consumer, from history.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.pass_obj
def replay(
    face: Face,
    *,
    since: datetime.datetime,
    until: datetime.datetime | None,
    event_type: str | None,
    consumer: str | None,
    dry_run: bool,
) -> None:
    """Store again what the stream still holds, or feed old events to a consumer.

    Without --to, the history gets those events that it misses; what it has stays as it is, and
    nobody else notices. With --to, one consumer of your own gets events out of the history, which
    reaches further back than the stream: in the order of their times, each as it was.
    """
    span = Span(since, until or datetime.datetime.now(datetime.UTC), event_type)
    note_a_slip(event_type=event_type)
    asyncio.run(_replay(face, span, consumer, dry_run=dry_run))


async def _replay(face: Face, span: Span, consumer: str | None, *, dry_run: bool) -> None:
    async with face.connected() as bus, _history(face) as pool:
        if consumer is None:
            await _rebuild(bus, pool, span, dry_run=dry_run)
        else:
            await _feed(bus, pool, span, consumer, dry_run=dry_run)


@contextlib.asynccontextmanager
async def _history(face: Face) -> AsyncIterator[Pool]:
    database = face.resolved_settings().database
    async with contextlib.AsyncExitStack() as stack:
        opened = open_pool(database, url=database.events_url, size=2)
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                pool = await stack.enter_async_context(opened)
        except TimeoutError as error:
            raise Unanswered(
                f"no PostgreSQL in {CONNECT_WITHIN:.0f} s: is it running, and is that where "
                "MEDIABUS_DATABASE_URL leads?"
            ) from error
        try:
            yield pool
        except asyncpg.UndefinedTableError as error:
            raise Unanswered(f"PostgreSQL: {error}: run `mediabus migrate`") from error


async def _rebuild(bus: Bus, pool: Pool, span: Span, *, dry_run: bool) -> None:
    store, progress = EventStore(pool), _Progress()
    missing = refused = 0
    async for batch in _batches(bus, span):
        if dry_run:
            missing += await store.missing(batch)
        else:
            outcomes = await store.store(batch)
            refused += sum(outcome is not None for outcome in outcomes)
        progress.advance(len(batch), batch[-1].envelope.time)
    progress.end()
    click.echo(
        f"{progress.count} events in the stream, {missing} of them missing in the history"
        if dry_run
        else f"{progress.count} events in the stream, {store.stored} stored that were missing"
    )
    if refused:
        click.echo(f"{refused} cannot be stored: `mediabus dead list` says why", err=True)


async def _batches(bus: Bus, span: Span) -> AsyncIterator[list[Delivery]]:
    """What the stream holds of the span. An event arrives after it happened, or as much earlier as
    clocks may differ."""
    batch: list[Delivery] = []
    size = 0
    start = span.since - NEWEST_ACCEPTED
    async for message in read_stream(bus, EVENTS_SUBJECTS, start, follow=False):
        try:
            envelope = codec.decode(message.data, message.headers)
        except codec.InvalidEvent:
            continue  # it is among the dead letters
        if span.takes(envelope):
            batch.append(Delivery(envelope, message.metadata.sequence.stream, 1))
            size += len(message.data)
        if len(batch) >= AT_A_TIME or size >= MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _feed(bus: Bus, pool: Pool, span: Span, consumer: str, *, dry_run: bool) -> None:
    await _check_consumer(bus, consumer)
    total = await count(pool, span)
    if dry_run:
        click.echo(f"{total} events for {consumer}")
        return
    progress, run, refused = _Progress(of=total), uuid7(), 0
    async for page in pages(pool, span):
        try:
            refused += await _publish(bus, consumer, page, run)
        except PublishFailed as error:
            raise PublishFailed(
                f"{progress.count} of {total} events were fed, then: {error}; "
                f"go on with --since {page[0].time.isoformat()}"
            ) from error
        progress.advance(len(page), page[-1].time)
    progress.end()
    click.echo(f"{progress.count - refused} events are on their way to {consumer}")
    if refused:
        click.echo(f"{refused} are too large by now: only the history has them", err=True)


async def _publish(bus: Bus, consumer: str, page: list[Envelope], run: UUID) -> int:
    """Publishes events to one consumer, in their order, and answers how many cannot be: PostgreSQL
    may have made a number longer, and the event too large."""
    outgoing = []
    for envelope in page:
        with contextlib.suppress(codec.InvalidEvent):
            subject, payload = replayed(consumer, subject_of(envelope)), codec.encode(envelope)
            # Under an id of this run: else a second run would be dropped as seen.
            outgoing.append(Outgoing(uuid5(run, str(envelope.id)), subject, payload))
    await publish_all(bus, outgoing)
    return len(page) - len(outgoing)


async def _check_consumer(bus: Bus, consumer: str) -> None:
    """What nobody waits for would be dropped."""
    try:
        await bus.js.consumer_info(REPLAY_STREAM, consumer)
    except (NotFoundError, ValueError) as error:  # ValueError: no consumer can be called that
        raise Unanswered(
            f"no consumer {consumer!r} of your own ever ran: start it, then feed it"
        ) from error


class _Progress:
    """How far it is, for who waits at a terminal."""

    def __init__(self, of: int | None = None) -> None:
        self.count = 0
        self._of = of
        self._shown_at = 0.0

    def advance(self, events: int, moment: datetime.datetime) -> None:
        self.count += events
        if sys.stderr.isatty() and time.monotonic() - self._shown_at > 0.2:
            of = f" of {self._of}" if self._of else ""
            line = f"{self.count}{of} events, up to {local(moment)}"
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)
            self._shown_at = time.monotonic()

    def end(self) -> None:
        if self._shown_at:
            click.echo("\r\x1b[K", nl=False, err=True)
