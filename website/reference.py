"""The reference pages that are made from the code."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from mediabus.schemas.docs import markdown as events_page
from website import api_page, cli_page, settings_page

PAGES: Final[dict[str, Callable[[], str]]] = {
    "docs/events.md": events_page.markdown,
    "docs/reference/settings.md": settings_page.markdown,
    "docs/reference/cli.md": cli_page.markdown,
    "docs/reference/api.md": api_page.markdown,
}
"""What makes each page, by its path in the repository."""


def stale(root: Path) -> list[str]:
    """Return a line for each reference page that is not what the code makes."""
    return [
        f"{name} is stale: run `make reference`"
        for name, make in PAGES.items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != make()
    ]


def write(root: Path) -> None:
    """Write every reference page."""
    for name, make in PAGES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")
