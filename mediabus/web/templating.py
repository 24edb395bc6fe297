"""Render templates: everything from outside is escaped, and its control characters are visible."""

import datetime
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mediabus.runtime.visible import plain_lines
from mediabus.schemas.identity import Resource
from mediabus.schemas.plain_text import plain
from mediabus.schemas.wording import duration_text, size_text

MAIN: Final = '<main id="main" tabindex="-1">'
"""Where the top of a page ends."""

TEMPLATES: Final = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Return the templates with their filters."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
    )
    made.filters |= {
        "coded": coded,
        "duration": duration_text,
        "exact": exact,
        "lasting": lasting,
        "moment": moment,
        "plain": shortened,
        "plain_lines": lambda text: plain_lines(str(text)),
        "size": size_text,
        "story": story_path,
    }
    return made


def shortened(text: object, most: int = 200) -> str:
    """Return at most ``most`` printable characters of a text."""
    given = str(text)
    shown = plain(given[: most + 1])
    return shown if len(given) <= most else f"{shown[: most - 1]}…"


def coded(text: str) -> Markup:
    """Return a text in which the words in backticks are code."""
    marked = CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(marked)  # noqa: S704 - escaped before


CODE: Final = re.compile(r"`([^`]+)`")


def exact(time: datetime.datetime) -> str:
    """Return a time to the second, in UTC."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def moment(time: datetime.datetime) -> Markup:
    """Return how long ago a time is, with the exact time on hover."""
    seconds = (datetime.datetime.now(datetime.UTC) - time).total_seconds()
    text = "now" if -1 < seconds < 1 else _relative(seconds)
    return Markup('<time datetime="{}" title="{}" data-ago>{}</time>').format(
        time.isoformat(), exact(time), text
    )


def lasting(since: datetime.datetime) -> Markup:
    """Return for how long something has lasted, with the exact time of its begin on hover."""
    seconds = (datetime.datetime.now(datetime.UTC) - since).total_seconds()
    text = "a moment" if seconds < 1 else duration_text(seconds)
    return Markup('<time datetime="{}" title="since {}" data-for>{}</time>').format(
        since.isoformat(), exact(since), text
    )


def _relative(seconds: float) -> str:
    text = duration_text(abs(seconds))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def story_path(resource: Resource | tuple[str, str]) -> str:
    """Return the path of a resource's story, below the base."""
    kind, name = (
        (resource.type, resource.id)
        if isinstance(resource, Resource)
        else (resource[0], resource[1])
    )
    return f"story/{quote(kind, safe='')}/{quote(name, safe='')}"


def top_of(templates: Environment, template: str, /, **values: Any) -> str:  # noqa: ANN401 - any value
    """Return a page up to its main part, for which the other values are not needed."""
    top = ""
    for piece in templates.get_template(template).generate(**values):
        before, mark, _ = str(piece).partition(MAIN)  # Markup would escape what it is added to
        top += before + mark
        if mark:
            return top
    raise ValueError(f"{template} has no main part")


def rendered(templates: Environment, template: str, /, **values: Any) -> str:  # noqa: ANN401 - any value
    """Return a template filled with values."""
    return templates.get_template(template).render(values)
