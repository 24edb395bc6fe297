"""`mediabus top`: the downloads in progress, live."""

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

from mediabus.commands.context import Face
from mediabus.commands.help import examples
from mediabus.commands.output import format_duration, format_rate
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.visible import plain
from mediabus.schemas.status import DownloadStatus, Phase
from mediabus.service.downloads.bucket import Shown, follow, read

ENDED: Final = frozenset({Phase.COMPLETED})
COLOURS: Final = {Phase.FAILED: "red", Phase.PAUSED: "yellow", Phase.DOWNLOADING: "green"}
DRAWN_EVERY: Final = 0.5
BARS_FROM: Final = 80
"""Terminal columns. A narrower terminal shows no progress bars, to leave room for titles."""


@click.command(epilog=examples("mediabus top", "mediabus top --once | cat"))
@click.option("--once", is_flag=True, help="Print once and exit.")
@click.pass_obj
def top(face: Face, once: bool) -> None:
    """Show the downloads in progress, live.

    The list follows what the monitor reports. Press Ctrl-C to stop.
    """
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_top(face, once=once or not sys.stdout.isatty()))


async def _top(face: Face, *, once: bool) -> None:
    console = Console(
        file=sys.__stdout__
    )  # rich moves the cursor; the texts themselves are cleaned by plain()
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
    async with contextlib.aclosing(follow(bus, shown)) as updates:
        async for _ in updates:
            pass


def picture(shown: Shown, *, width: int, height: int) -> RenderableType:
    """Render a summary line and as many downloads in progress as fit, the fastest first."""
    active = sorted(
        (d for d in shown.downloads.values() if d.phase not in ENDED),
        key=lambda d: (-d.download_rate, -d.progress, d.title),
    )
    room = max(height - 4, 1)
    parts: list[RenderableType] = [
        _summary(shown, active),
        _table(active[:room], with_bars=width >= BARS_FROM),
    ]
    if len(active) > room:
        parts.append(Text(f"and {len(active) - room} more", style="dim"))
    return Group(*parts)


def _summary(shown: Shown, active: list[DownloadStatus]) -> Text:
    down = format_rate(sum(d.download_rate for d in active))
    up = format_rate(sum(d.upload_rate for d in shown.downloads.values()))
    unreachable = sorted(name for name, status in shown.clients.items() if not status.reachable)
    text = Text(f"{len(active)} in progress, {down or '0 B/s'} down, {up or '0 B/s'} up")
    if unreachable:
        text.append(f"   unreachable: {plain(', '.join(unreachable))}", style="red")
    if shown.unreadable:
        text.append(f"   {len(shown.unreadable)} invalid: see mediabus doctor", style="yellow")
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
            format_rate(download.download_rate),
            format_duration(download.eta),
        )
    return table
