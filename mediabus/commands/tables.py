"""Tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell = str | tuple[str, str | None]
"""Text, or text and its colour."""


def show(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, nothing: str) -> None:
    """Prints the rows as a table, or says that there is nothing."""
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
    """Text as it is: rich would take square brackets in a title for markup."""
    text, colour = cell if isinstance(cell, tuple) else (cell, None)
    return Text(text, style=colour or "")
