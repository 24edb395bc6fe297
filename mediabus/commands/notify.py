"""`mediabus notify`: run the notifier, or list, test and inspect its targets."""

import asyncio
import contextlib
import datetime
import sys
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec
from nats.js.errors import NotFoundError

from mediabus.api.stream import read_stream
from mediabus.commands import tables
from mediabus.commands.context import Face, Moment, json_lines
from mediabus.commands.daemons import run_registered
from mediabus.commands.help import examples
from mediabus.commands.output import COLOURS, local_time
from mediabus.consumers.notifier.lookup import find_event
from mediabus.consumers.notifier.message import hidden, message_of
from mediabus.consumers.notifier.reports import report
from mediabus.consumers.notifier.run import opened
from mediabus.consumers.notifier.settings import NotifierConfig, Target, parsed
from mediabus.consumers.notifier.state import TargetState
from mediabus.consumers.notifier.store import StateStore
from mediabus.consumers.notifier.targets.port import Failed, event_id_of
from mediabus.consumers.notifier.worker import utc_now
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import SettingsError
from mediabus.runtime.visible import json_line, plain
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted, NotificationDelivered, NotificationFailed
from mediabus.schemas.identity import Actor
from mediabus.schemas.subjects import EVENTS_STREAM, token
from mediabus.wiring.registry import NOTIFY

COLUMNS: Final = ("target", "kind", "state", "waiting", "next try", "reason")


@click.group(
    invoke_without_command=True,
    help=f"{NOTIFY.summary}\n\n{NOTIFY.description}",
    epilog=examples(*NOTIFY.examples),
)
@click.pass_context
def notify(context: click.Context) -> None:
    """Run the notifier, unless a command follows."""
    if context.invoked_subcommand is None:
        run_registered(NOTIFY, context.obj)


class TargetLine(msgspec.Struct, frozen=True, kw_only=True):
    """A target as ``--json`` prints it. ``waiting`` counts events, also those of other types."""

    target: str
    kind: str
    state: str
    waiting: int
    failures: int
    failing_since: datetime.datetime | None
    next_try: datetime.datetime | None
    reason: str


@notify.command(
    "list", epilog=examples("mediabus notify list", "mediabus notify list --json | jq .waiting")
)
@json_lines
@click.pass_obj
def list_(face: Face, as_json: bool) -> None:
    """Show the targets, and what waits for them."""
    lines = asyncio.run(_lines(face))
    if as_json:
        for line in lines:
            click.echo(json_line(msgspec.json.encode(line)))
    elif sys.stdout.isatty():
        tables.show(COLUMNS, [_row(line) for line in lines], nothing="no targets")
    else:
        for line in lines:
            click.echo("  ".join(_row(line)))


def _row(line: TargetLine) -> list[str]:
    next_try = local_time(line.next_try) if line.next_try else "-"
    cells = (line.target, line.kind, line.state, str(line.waiting), next_try, line.reason or "-")
    return [plain(cell) for cell in cells]


async def _lines(face: Face) -> list[TargetLine]:
    config = _config(face)
    async with face.connected() as bus:
        return [await _line(bus, target) for target in config.targets]


async def _line(bus: Bus, target: Target) -> TargetLine:
    state, waiting = TargetState(), 0
    with contextlib.suppress(NotFoundError):  # the notifier has not run yet
        state = await StateStore(bus, target.name).load()
        info = await bus.js.consumer_info(EVENTS_STREAM, target.durable)
        waiting = (info.num_pending or 0) + (info.num_ack_pending or 0)
    return TargetLine(
        target=target.name,
        kind=target.settings.kind,
        state=_state(target, state),
        waiting=waiting,
        failures=state.failures,
        failing_since=state.failing_since,
        next_try=state.next_at,
        reason=state.reason,
    )


def _state(target: Target, state: TargetState) -> str:
    if not target.settings.enabled:
        return "disabled"
    if state.is_failing:
        return "failing"
    return "retrying" if state.failures else "ok"


@notify.command(epilog=examples("mediabus notify test phone"))
@click.argument("name")
@click.pass_obj
def test(face: Face, name: str) -> None:
    """Send a test message now, and show what the other side answered."""
    config = _config(face)
    event = JobExecuted(job_name="notify test")
    envelope = Envelope.of(event, actor=Actor("system", "notifier"))
    answer = asyncio.run(_sent(_target(config, name), config, envelope))
    _show_answer(name, answer)


@notify.command(
    epilog=examples("mediabus notify resend phone 0198c1f3-0d4e-7f60-9a1b-2c3d4e5f6071")
)
@click.argument("name")
@click.argument("event")
@click.pass_obj
def resend(face: Face, name: str, event: str) -> None:
    """Send the message about an event again, now, and record it.

    The event is looked up in the stream by its id. Rules, quiet hours and retries do not apply.
    """
    _show_answer(name, asyncio.run(_resent(face, name, event)))


async def _resent(face: Face, name: str, event: str) -> str | Failed:
    config = _config(face)
    target = _target(config, name)
    async with face.connected() as bus:
        envelope = await find_event(bus, event)
        if envelope is None:
            raise click.ClickException(
                f"the stream has no event {plain(event)}: `mediabus history` shows ids. Events are "
                "kept for nats.max_age_days"
            )
        answer = await _sent(target, config, envelope)
        ids = [event_id_of(envelope)]
        told = (
            NotificationFailed(target=name, event_ids=ids, attempts=1, error_message=answer.reason)
            if isinstance(answer, Failed)
            else NotificationDelivered(target=name, event_ids=ids, attempts=1, answer=answer)
        )
        made = codec.decode(bytes(report(name, told, envelope)))
        await bus.publish_envelope(made)
        return answer


async def _sent(target: Target, config: NotifierConfig, envelope: Envelope) -> str | Failed:
    async with opened(target, config) as sender:
        try:
            return await sender.send(message_of(target, [envelope], utc_now()))
        except Failed as error:
            return hidden(target, error)


def _show_answer(name: str, answer: str | Failed) -> None:
    if isinstance(answer, Failed):
        raise click.ClickException(f"{plain(name)} did not accept the message: {answer.reason}")
    click.echo(f"{plain(name)} accepted the message: {plain(answer)}")


@notify.command(
    epilog=examples("mediabus notify log phone", "mediabus notify log phone --since 1h --json")
)
@click.argument("name")
@click.option("--since", type=Moment(), default="7d", show_default=True, help="Since then.")
@json_lines
@click.pass_obj
def log(face: Face, name: str, since: datetime.datetime, as_json: bool) -> None:
    """Show the deliveries to a target, oldest first: those delivered, and those that failed."""
    asyncio.run(_log(face, name, since, as_json=as_json))


async def _log(face: Face, name: str, since: datetime.datetime, *, as_json: bool) -> None:
    subjects = f"events.system.notification.*.{token(name)}"
    async with face.connected() as bus:
        async for message in read_stream(bus, subjects, since, follow=False):
            envelope = codec.decode(message.data, message.headers)
            if as_json:
                click.echo(json_line(codec.encode(envelope)))
            else:
                click.echo(_log_line(envelope))


def _log_line(envelope: Envelope) -> str:
    fields: dict[str, Any] = envelope.fields()
    what = envelope.type.partition(".")[2].replace("_", " ")
    details: Sequence[object] = (
        fields.get("answer"),
        f"attempt {fields['attempts']}" if fields.get("attempts", 1) != 1 else None,
        fields.get("error_message"),
        f"retry in {fields['retry_in_seconds']:g} s" if fields.get("retry_in_seconds") else None,
        " ".join(map(str, fields.get("event_ids", ()))),
    )
    shown = "  ".join(plain(str(detail)) for detail in details if detail)
    colour = COLOURS.get(envelope.severity)
    return f"{local_time(envelope.time)}  {click.style(f'{what:<16}', fg=colour)}  {shown}"


def _config(face: Face) -> NotifierConfig:
    config = parsed(face.settings())
    if config is None:
        raise SettingsError(f"no target is configured: {NOTIFY.absent}")
    return config


def _target(config: NotifierConfig, name: str) -> Target:
    names = [target.name for target in config.targets]
    if name not in names:
        raise click.BadParameter(
            f"no target is named {plain(name)!r}: there are {', '.join(names)}", param_hint="NAME"
        )
    return config.targets[names.index(name)]
