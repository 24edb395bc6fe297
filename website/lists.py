"""Find lists that GitHub shows and the site does not: those without an empty line before them."""

import re
from collections.abc import Iterator
from typing import Final

from website.links import BLOCK, COMMENT

ITEM: Final = re.compile(r"(?:[-*+]|\d+\.) +\S")
EMPTY_LINES: Final = re.compile(r"\n(?: *\n)+")


def problems(text: str) -> Iterator[str]:
    """Yield a line for each list that begins right after a line of text."""
    for paragraph in EMPTY_LINES.split(COMMENT.sub("", BLOCK.sub("", text))):
        first, *more = paragraph.strip("\n").splitlines() or [""]
        if not ITEM.match(first.lstrip()):
            item = next(filter(ITEM.match, more), None)
            if item is not None:
                yield f"{item[:60]!r}: put an empty line before the list"
