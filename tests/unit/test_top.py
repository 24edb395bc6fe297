"""The picture of `mediabus top` on terminals of several widths."""

from rich.console import Console

from mediabus.commands.top import picture
from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.downloads.bucket import Shown


def drawn(width: int) -> str:
    status = DownloadStatus(
        client=ClientName("home"),
        item=ItemId("a"),
        title="slow as ice",
        phase=Phase.DOWNLOADING,
        progress=0.5,
        download_rate=122_000,
        eta=24,
    )
    shown = Shown(downloads={(status.client, status.item): status})
    console = Console(width=width)
    with console.capture() as text:
        console.print(picture(shown, width=width, height=20))
    return text.get()


def test_a_narrow_terminal_shows_titles_and_a_wide_one_bars_too() -> None:
    narrow, wide = drawn(60), drawn(120)
    assert "slow as ice" in narrow
    assert "slow as ice" in wide
    has_bars = [text.replace("in progress", "").count("progress") > 0 for text in (narrow, wide)]
    assert has_bars == [False, True]
