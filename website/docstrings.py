"""Turn docstrings into Markdown."""

import inspect
import re
import textwrap
from collections.abc import Iterator

from website.markdown import escaped, fence


def markdown(docstring: str | None) -> Iterator[str]:
    """Yield the parts of a docstring: paragraphs, lists of errors, and examples."""
    for part in inspect.cleandoc(docstring or "").split("\n\n"):
        if part.startswith(">>>"):
            yield fence("pycon", part)
        elif part.startswith("Raises:\n"):
            yield "Raises:\n"
            yield "".join(_errors(part.partition("\n")[2]))
        else:
            yield f"{prose(part)}\n"


def paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a docstring, each as one line of Markdown."""
    return [prose(part) for part in inspect.cleandoc(text or "").split("\n\n")]


def prose(text: str) -> str:
    """Return a paragraph as one line of Markdown."""
    return escaped(" ".join(text.replace("``", "`").split()))


def _errors(lines: str) -> Iterator[str]:
    """Yield a list item for each ``Name: text`` of a section ``Raises``."""
    for item in re.split(r"\n(?=\S)", textwrap.dedent(lines)):
        name, _, text = item.partition(": ")
        yield f"- `{name.strip()}`: {prose(text)}\n"
