"""`mediabus replay`: fill gaps of the history, or replay old events to one consumer."""

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

from mediabus.api.stream import read_stream
from mediabus.commands.context import Face, Moment, note_unregistered
from mediabus.commands.errors import Unanswered
from mediabus.commands.help import examples
from mediabus.commands.notes import note
from mediabus.commands.output import local_time
from mediabus.consumers.daemon import published_at
from mediabus.consumers.event_row import EventRow
from mediabus.consumers.history.archive import Span, count, pages
from mediabus.consumers.persister.store import NEWEST_ACCEPTED, EventStore
from mediabus.runtime.nats.bus import STRUCTURED, Bus, PublishFailed
from mediabus.runtime.nats.stream_reader import Stored
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.schemas import codec
from mediabus.schemas import dead_letter_headers as letter
from mediabus.schemas.identity import uuid7
from mediabus.schemas.subjects import EVENTS_SUBJECTS, REPLAY_STREAM, replayed, subject_of
from mediabus.service.outbox.publish import Outgoing, publish_all

CONNECT_WITHIN: Final = 10.0
AT_A_TIME: Final = 500
MOST_BYTES: Final = 8_000_000


@click.command(
    epilog=examples(
        "mediabus replay --since 30d --dry-run              count the missing events",
        "mediabus replay --since 30d                        store those events",
        "mediabus replay --since 2025-01-01 --to notifier   replay old events",
    )
)
@click.option("--since", type=Moment(), required=True, help="Events since then: 2d, 2026-11-22.")
@click.option("--until", type=Moment(), help="Events before then; default: now.")
@click.option("--type", "event_type", metavar="TYPE", help="Only this event type.")
@click.option(
    "--to", "consumer", metavar="NAME", help="Replay events of the history to this consumer."
)
@click.option("--dry-run", is_flag=True, help="Only count the events.")
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
    """Store the events that the history lacks, or replay old events to a consumer.

    Without --to, mediabus reads the stream and stores the events that are missing in the history.
    Stored events do not change, and no other consumer is affected.

    With --to, mediabus publishes events of the history to one consumer of your own, in the order of
    their times. The history goes back further than the stream.
    """
    span = Span(since, until or datetime.datetime.now(datetime.UTC), event_type)
    note_unregistered(event_type=event_type)
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
                f"Cannot reach PostgreSQL within {CONNECT_WITHIN:.0f} s. Check that it is running "
                "and that MEDIABUS_DATABASE_URL is correct."
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
        progress.advance(len(batch), batch[-1].occurred_at)
    progress.end()
    click.echo(
        f"{progress.count} events in the stream, {missing} of them missing in the history"
        if dry_run
        else f"{progress.count} events in the stream, {store.stored} missing ones stored"
    )
    if refused:
        click.echo(f"{refused} cannot be stored: see `mediabus dead list`", err=True)


async def _batches(bus: Bus, span: Span) -> AsyncIterator[list[EventRow]]:
    """Read the events of the span from the stream, in batches.

    The stream stores an event after its time, or earlier by the accepted difference of clocks.
    """
    batch: list[EventRow] = []
    size = 0
    start = span.since - NEWEST_ACCEPTED
    async for message in read_stream(bus, EVENTS_SUBJECTS, start, follow=False, note=note):
        try:
            row = _row_of(bus, message)
        except codec.InvalidEvent:
            continue  # the persister has dead-lettered it
        if span.takes(row):
            batch.append(row)
            size += len(message.data)
        if len(batch) >= AT_A_TIME or size >= MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _row_of(bus: Bus, message: Stored) -> EventRow:
    return EventRow.decode(
        message.data,
        message.headers,
        message.sequence,
        published_at=lambda: published_at(message.headers, message.time),
        trust_actor=bus.trusts_actors,
    )


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
                f"{progress.count} of {total} events were published, then: {error}. "
                f"Continue with --since {page[0].occurred_at.isoformat()}"
            ) from error
        progress.advance(len(page), page[-1].occurred_at)
    progress.end()
    click.echo(f"published {progress.count - refused} events to {consumer}")
    if refused:
        click.echo(f"skipped {refused} events that are too large for NATS", err=True)


async def _publish(bus: Bus, consumer: str, page: list[EventRow], run: UUID) -> int:
    """Publish events to one consumer, in order. Return how many are too large.

    PostgreSQL writes some numbers with more digits, so an event can outgrow the limit.
    """
    outgoing = []
    for row in page:
        payload, headers = row.sent()
        if len(payload) <= codec.MAX_EVENT_BYTES:
            envelope = row.envelope()
            subject = replayed(consumer, subject_of(envelope))
            if not envelope.has_time:
                headers = {**(headers or STRUCTURED), letter.TIME: row.occurred_at.isoformat()}
            # An id of this run: JetStream would drop a second run as duplicates.
            outgoing.append(Outgoing(uuid5(run, str(row.id)), subject, payload, headers))
    await publish_all(bus, outgoing)
    return len(page) - len(outgoing)


async def _check_consumer(bus: Bus, consumer: str) -> None:
    """Raise Unanswered if the consumer never ran: the stream would drop its messages."""
    try:
        await bus.js.consumer_info(REPLAY_STREAM, consumer)
    except (NotFoundError, ValueError) as error:  # ValueError: an invalid consumer name
        raise Unanswered(f"consumer {consumer!r} has never run: start it, then replay") from error


class _Progress:
    """A progress line on a terminal."""

    def __init__(self, of: int | None = None) -> None:
        self.count = 0
        self._of = of
        self._shown_at = 0.0

    def advance(self, events: int, moment: datetime.datetime) -> None:
        self.count += events
        if sys.stderr.isatty() and time.monotonic() - self._shown_at > 0.2:
            of = f" of {self._of}" if self._of else ""
            line = f"{self.count}{of} events, up to {local_time(moment)}"
            print(f"\r\x1b[K{line}", end="", file=sys.__stderr__, flush=True)
            self._shown_at = time.monotonic()

    def end(self) -> None:
        if self._shown_at:
            print("\r\x1b[K", end="", file=sys.__stderr__, flush=True)
