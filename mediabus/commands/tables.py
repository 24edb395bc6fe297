"""Print tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mediabus.runtime.visible import plain

Cell = str | tuple[str, str | None]
"""A text, or a text and its colour."""


def show(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, nothing: str) -> None:
    """Print the rows as a table, or the text ``nothing`` if there are none."""
    console = Console()
    if not rows:
        console.print(Text(nothing, style="dim"))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    console.print(table)


def _text(cell: Cell) -> Text:
    """Return the text without markup: rich would interpret square brackets in a title."""
    text, colour = cell if isinstance(cell, tuple) else (cell, None)
    return Text(plain(text), style=colour or "")
