"""`mediabus clients`: the download clients, whether they answer, and what they do."""

import asyncio
import sys
from collections import Counter

import click
import msgspec

from schemas.status import ClientStatus, DownloadStatus, Phase
from service.cli import tables
from service.cli.face import Face, json_lines
from service.cli.help import examples
from service.cli.output import local, plain, rate
from service.downloads.shown import Shown, read


class ClientLine(msgspec.Struct, frozen=True, kw_only=True):
    """A client as ``--json`` prints it; rates in bytes a second."""

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
    """Show the download clients, and why one does not answer.

    A client is listed once the monitor has reached it, or has failed to for a while.
    """
    lines = asyncio.run(_lines(face))
    if as_json:
        for line in lines:
            click.echo(msgspec.json.encode(line))
    elif sys.stdout.isatty():
        columns = ("client", "kind", "version", "reachable", "since", "downloads", "down", "up")
        tables.show(columns, [_row(line) for line in lines], nothing="no client was met yet")
    else:
        for line in lines:
            click.echo("  ".join(_text(cell) for cell in _row(line)))


async def _lines(face: Face) -> list[ClientLine]:
    async with face.connected() as bus:
        return lines_of(await read(bus))


def lines_of(shown: Shown) -> list[ClientLine]:
    """One line a client, by name."""
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
    why = f"no: {status.reason}: {status.message}"
    counts = ", ".join(f"{count} {phase}" for phase, count in sorted(line.downloads.items()))
    return [
        plain(status.client),
        plain(status.kind),
        plain(status.version or ""),
        ("yes", "green") if status.reachable else (plain(why), "red"),
        local(status.since),
        counts or "none",
        rate(line.download_rate),
        rate(line.upload_rate),
    ]


def _text(cell: tables.Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]
