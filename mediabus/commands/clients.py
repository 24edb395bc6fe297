"""`mediabus clients`: the download clients, their reachability and their downloads."""

import asyncio
import sys
from collections import Counter
from typing import Final

import click
import msgspec

from mediabus.commands import tables
from mediabus.commands.context import Face, json_lines
from mediabus.commands.help import examples
from mediabus.commands.output import format_rate, local_time
from mediabus.runtime.visible import json_line, plain
from mediabus.schemas.status import ClientStatus, DownloadStatus, Phase
from mediabus.service.downloads.bucket import Shown, read

MOST_UNREADABLE: Final = 10
"""Keys with invalid values that are listed one by one."""


class ClientLine(msgspec.Struct, frozen=True, kw_only=True):
    """A client as ``--json`` prints it; rates are in bytes per second."""

    status: ClientStatus
    downloads: dict[Phase, int]
    download_rate: int
    upload_rate: int


@click.command(
    epilog=examples("mediabus clients", "mediabus clients --json | jq .status.reachable")
)
@json_lines
@click.pass_obj
def clients(face: Face, as_json: bool) -> None:
    """Show the download clients, and why one is unreachable.

    A client is listed after the monitor has reached it, or has failed to reach it for a while.
    """
    lines, unreadable = asyncio.run(_lines(face))
    for key, why in sorted(unreadable.items())[:MOST_UNREADABLE]:
        click.secho(f"mediabus: cannot read {plain(key)}: {plain(why)}", fg="yellow", err=True)
    if len(unreadable) > MOST_UNREADABLE:
        click.secho(f"mediabus: and {len(unreadable) - MOST_UNREADABLE} more", err=True)
    if as_json:
        for line in lines:
            click.echo(json_line(msgspec.json.encode(line)))
    elif sys.stdout.isatty():
        columns = ("client", "kind", "version", "reachable", "since", "downloads", "down", "up")
        tables.show(
            columns,
            [_row(line) for line in lines],
            nothing="the monitor has not reported any client yet",
        )
    else:
        for line in lines:
            click.echo("  ".join(_text(cell) for cell in _row(line)))


async def _lines(face: Face) -> tuple[list[ClientLine], dict[str, str]]:
    """Return the lines of the clients, and the error of each key with an invalid value."""
    async with face.connected() as bus:
        shown = await read(bus)
    return lines_of(shown), shown.unreadable


def lines_of(shown: Shown) -> list[ClientLine]:
    """Return one line per client, sorted by name."""
    return [
        _line(status, [d for d in shown.downloads.values() if d.client == name])
        for name, status in sorted(shown.clients.items())
    ]


def _line(status: ClientStatus, downloads: list[DownloadStatus]) -> ClientLine:
    return ClientLine(
        status=status,
        downloads=dict(Counter(download.phase for download in downloads)),
        download_rate=sum(download.download_rate for download in downloads),
        upload_rate=sum(download.upload_rate for download in downloads),
    )


def _row(line: ClientLine) -> list[tables.Cell]:
    status = line.status
    counts = ", ".join(f"{count} {phase}" for phase, count in sorted(line.downloads.items()))
    return [
        plain(status.client),
        plain(status.kind),
        plain(status.version or ""),
        _reach(status),
        local_time(status.since),
        counts or "none",
        format_rate(line.download_rate),
        format_rate(line.upload_rate),
    ]


def _reach(status: ClientStatus) -> tables.Cell:
    """Format whether the client is reachable, with its reason or warning."""
    if not status.reachable:
        return plain(f"no: {status.reason}: {status.message}"), "red"
    if status.warning:
        return plain(f"yes, warning: {status.warning}"), "yellow"
    return "yes", "green"


def _text(cell: tables.Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]
