"""The picture of `mediabus top` on terminals of several widths."""

from rich.console import Console

from schemas.status import ClientName, DownloadStatus, ItemId, Phase
from service.cli.top import picture
from service.downloads.shown import Shown


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
    assert ("progress" in narrow, "progress" in wide) == (False, True)
