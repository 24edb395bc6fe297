"""`mediabus apps`: the applications that mediabus reads, their webhooks, and their past."""

import asyncio
import datetime
import sys
from typing import Final

import click
import msgspec
from rich.progress import BarColumn, Progress, TextColumn

from mediabus.api.request import ask
from mediabus.commands import tables
from mediabus.commands.context import Face, Moment, json_lines
from mediabus.commands.errors import Unanswered
from mediabus.commands.help import examples
from mediabus.commands.output import format_duration, local_time
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.visible import json_line, plain
from mediabus.schemas.operations.apps import AppList, AppState, ImportHistory, ListApps
from mediabus.service.apps import AnyAppSettings
from mediabus.service.apps.configured import app_settings
from mediabus.service.apps.connect import ConnectFailed, connect_app, webhook_url
from mediabus.service.apps.http import app_http
from mediabus.service.clients.port import ClientUnavailable

COLUMNS: Final = ("app", "kind", "version", "state", "newest event", "read", "webhook")

POLL_PROGRESS: Final = 0.5
"""Seconds between two looks at the progress of an import."""


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "mediabus apps",
        "mediabus apps --json | jq .version",
        "mediabus apps connect sonarr",
        "mediabus apps import sonarr --since 2020-01-01",
    ),
)
@json_lines
@click.pass_context
def apps(context: click.Context, as_json: bool) -> None:
    """Show the applications, connect their webhooks, and import their past.

    Without a command, show them: since when each is reachable or why it is not, the newest event
    of its history, how long ago that was read, and when the last webhook came.
    """
    if context.invoked_subcommand is None:
        asyncio.run(_show(context.obj, as_json=as_json))


@apps.command(
    epilog=examples(
        "mediabus apps connect sonarr",
        "mediabus apps connect sonarr --url http://192.168.1.5:8321",
        "mediabus apps connect sonarr --show-url",
    )
)
@click.argument("name")
@click.option("--url", help="The address of mediabus as the application reaches it [ingest.url].")
@click.option("--replace", is_flag=True, help="Replace another program's webhook (Seerr has one).")
@click.option("--show-url", is_flag=True, help="Print the webhook's URL, which holds its secret.")
@click.pass_obj
def connect(face: Face, name: str, url: str | None, replace: bool, show_url: bool) -> None:
    """Register the webhook of mediabus in an application, and test it.

    Running it again corrects the webhook; there is never a second one.
    """
    settings = face.settings()
    app = _named(app_settings(settings), name)
    base = url or settings.ingest.url
    if base is None:
        raise Unanswered(
            f"say how {app.program} reaches mediabus: use --url http://HOST:8321, or set `url` in "
            "[ingest]"
        )
    if show_url:
        click.echo(webhook_url(app, base))
        return
    done = asyncio.run(_connect(app, base, replace=replace))
    click.echo(f"{done}: the webhook of {app.program} ({plain(name)}) reaches mediabus")


@apps.command("import", epilog=examples("mediabus apps import sonarr --since 2020-01-01"))
@click.argument("name")
@click.option("--since", type=Moment(), required=True, help="The first moment to import.")
@click.pass_obj
def import_(face: Face, name: str, since: datetime.datetime) -> None:
    """Import the past of an application from its history.

    Each row becomes an event once, however often it is imported. The service does the work: it
    continues if you interrupt this command.
    """
    asyncio.run(_import(face, name, since))


async def _show(face: Face, *, as_json: bool) -> None:
    async with face.connected() as bus:
        states = (await ask(bus, "apps.list", ListApps(), AppList)).items
    if as_json:
        for state in states:
            click.echo(json_line(msgspec.json.encode(state)))
    elif sys.stdout.isatty():
        nothing = "the settings have no application: add [[apps]] (docs/apps.md)"
        tables.show(COLUMNS, [_row(state) for state in states], nothing=nothing)
    else:
        for state in states:
            cells = [cell if isinstance(cell, str) else cell[0] for cell in _row(state)]
            click.echo("  ".join(cells))


def _row(state: AppState) -> list[tables.Cell]:
    return [
        plain(state.name),
        plain(state.kind),
        plain(state.version or ""),
        _reach(state),
        local_time(state.newest_at) if state.newest_at else "none",
        _ago(state.read_at),
        _ago(state.webhook_at),
    ]


def _reach(state: AppState) -> tables.Cell:
    if state.reachable is None:
        return "not called yet", "yellow"
    if state.reachable:
        return "reachable", "green"
    return plain(f"{state.reason}: {state.error_message}"), "red"


def _ago(moment: datetime.datetime | None) -> str:
    if moment is None:
        return "never"
    seconds = (datetime.datetime.now(datetime.UTC) - moment).total_seconds()
    return f"{format_duration(max(int(seconds), 0))} ago"


def _named(configured: tuple[AnyAppSettings, ...], name: str) -> AnyAppSettings:
    for app in configured:
        if app.name == name:
            return app
    names = ", ".join(app.name for app in configured) or "none"
    raise Unanswered(f"the settings have no application {name!r}; they have: {names}")


async def _connect(app: AnyAppSettings, base: str, *, replace: bool) -> str:
    try:
        async with app_http(app) as api:
            return await connect_app(app, api, base, replace=replace)
    except (ClientUnavailable, ConnectFailed) as error:
        raise Unanswered(str(error)) from error


async def _import(face: Face, name: str, since: datetime.datetime) -> None:
    async with face.connected() as bus:
        state = await ask(bus, "apps.import", ImportHistory(name=name, since=since), AppState)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"))
        with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
            task = progress.add_task(plain(name), total=1.0, rows="")
            while state.backfill_since is not None:
                progress.update(task, completed=_done(state), rows=f"{state.backfill_rows} rows")
                await asyncio.sleep(POLL_PROGRESS)
                state = await _state_of(bus, name)
    click.echo(f"imported {state.backfill_rows} rows of {plain(name)}")


async def _state_of(bus: Bus, name: str) -> AppState:
    states = (await ask(bus, "apps.list", ListApps(), AppList)).items
    for state in states:
        if state.name == name:
            return state
    raise Unanswered(f"the service no longer has an application {name!r}")


def _done(state: AppState) -> float:
    """Return how much of the time to import is done, from 0 to 1."""
    if not (state.backfill_since and state.backfill_until and state.backfill_at):
        return 0.0
    whole = (state.backfill_until - state.backfill_since).total_seconds()
    passed = (state.backfill_at - state.backfill_since).total_seconds()
    return min(passed / whole, 1.0) if whole > 0 else 1.0
