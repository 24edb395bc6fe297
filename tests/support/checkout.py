"""A folder that looks like the checkout, and the code blocks of a document to paste there."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import commands

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block to paste, and what the document says that it prints; empty if it does not say."""

    text: str
    shown: str


def blocks(document: str) -> list[Block]:
    """Return the shell blocks of a document, each with the block of text that follows it."""
    found = BLOCK.findall(document)
    followed = zip(found, [*found[1:], ("", "")], strict=True)
    return [
        Block(text, after if kind == "text" else "")
        for (language, text), (kind, after) in followed
        if language == "sh"
    ]


def shows(screen: str, expected: str) -> bool:
    """Return whether a screen has the expected lines, in order; ``…`` stands for any text."""
    lines = [
        r"\s+".join(re.escape(word).replace("…", ".*?") for word in line.split())
        for line in expected.strip().splitlines()
    ]
    return re.search(r"\s.*?".join(lines), screen, re.DOTALL) is not None


@contextlib.contextmanager
def made() -> Iterator[Path]:
    """A folder where `make run` works; the user that PostgreSQL runs as may enter it."""
    with tempfile.TemporaryDirectory(prefix="mediabus-checkout-") as name:
        folder = Path(name).resolve()
        for entry in ("Makefile", ".venv"):
            (folder / entry).symlink_to(commands.ROOT / entry)
        for entry in ("pyproject.toml", "locks/dev.txt"):
            (folder / entry).parent.mkdir(exist_ok=True)
            (folder / entry).touch()
            os.utime(folder / entry, (0, 0))  # older than .venv, so that make installs nothing
        yield folder


def environment(port: int) -> dict[str, str]:
    """The environment of a reader; the pages are on ``port``."""
    kept = {name: text for name, text in commands.environment().items() if name != "PYTHONPATH"}
    return {**kept, "MEDIABUS_HTTP_PORT": str(port), "TERM": "xterm"}
