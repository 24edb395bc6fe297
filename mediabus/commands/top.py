"""`mediabus top`: the downloads under way, live."""

import asyncio
import contextlib
import sys
from collections.abc import Iterable
from typing import Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from schemas.status import DownloadStatus, Phase
from service.cli.face import Face
from service.cli.help import examples
from service.cli.output import plain, rate, span
from service.downloads.shown import Shown, follow, read
from service.runtime.bus import Bus

ENDED: Final = frozenset({Phase.COMPLETED})
COLOURS: Final = {Phase.FAILED: "red", Phase.PAUSED: "yellow", Phase.DOWNLOADING: "green"}
DRAWN_EVERY: Final = 0.5
BARS_FROM: Final = 80
"""Columns of the terminal; where there are fewer, titles need the room."""


@click.command(epilog=examples("mediabus top", "mediabus top --once | cat"))
@click.option("--once", is_flag=True, help="Print once, and stop.")
@click.pass_obj
def top(face: Face, once: bool) -> None:
    """Show the downloads under way, as they change.

    It follows what the monitor sees. Ctrl-C stops it.
    """
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_top(face, once=once or not sys.stdout.isatty()))


async def _top(face: Face, *, once: bool) -> None:
    console = Console()
    async with face.connected() as bus:
        if once:
            console.print(picture(await read(bus), width=console.width, height=10_000))
            return
        async with asyncio.TaskGroup() as tasks:
            shown = Shown()
            tasks.create_task(_follow(bus, shown))
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(
                        picture(shown, width=console.width, height=console.height), refresh=True
                    )
                    await asyncio.sleep(DRAWN_EVERY)


async def _follow(bus: Bus, shown: Shown) -> None:
    async with contextlib.aclosing(follow(bus, shown)) as looks:
        async for _ in looks:
            pass


def picture(shown: Shown, *, width: int, height: int) -> RenderableType:
    """As many of the downloads under way as fit, the fastest first, and one line about all."""
    under_way = sorted(
        (d for d in shown.downloads.values() if d.phase not in ENDED),
        key=lambda d: (-d.download_rate, -d.progress, d.title),
    )
    room = max(height - 4, 1)
    parts: list[RenderableType] = [
        _summary(shown, under_way),
        _table(under_way[:room], with_bars=width >= BARS_FROM),
    ]
    if len(under_way) > room:
        parts.append(Text(f"and {len(under_way) - room} more", style="dim"))
    return Group(*parts)


def _summary(shown: Shown, under_way: list[DownloadStatus]) -> Text:
    down = rate(sum(d.download_rate for d in under_way))
    up = rate(sum(d.upload_rate for d in shown.downloads.values()))
    away = sorted(name for name, status in shown.clients.items() if not status.reachable)
    text = Text(f"{len(under_way)} under way, {down or '0 B/s'} down, {up or '0 B/s'} up")
    if away:
        text.append(f"   out of reach: {', '.join(away)}", style="red")
    return text


def _table(downloads: Iterable[DownloadStatus], *, with_bars: bool) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    table.add_column("title", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("client", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    if with_bars:
        table.add_column("progress", ratio=1, min_width=12)
    for name in ("%", "down", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for download in downloads:
        table.add_row(
            Text(plain(download.title)),
            Text(plain(download.client)),
            Text(str(download.phase), style=COLOURS.get(download.phase, "")),
            *([ProgressBar(total=1.0, completed=download.progress)] if with_bars else []),
            f"{download.progress:.1%}",
            rate(download.download_rate),
            span(download.eta),
        )
    return table
