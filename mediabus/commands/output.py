"""How events look: one line each, safe for a terminal whatever is in them."""

import datetime
from typing import Final

import click

COLOURS: Final = {"info": "green", "warning": "yellow", "error": "red"}

NAMES: Final = ("title", "media_title", "job_name", "client", "path")
"""Fields of ``data`` that name what an event is about, the best first."""


def plain(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def local(moment: datetime.datetime, *, now: datetime.datetime | None = None) -> str:
    """The time here, with its date where that is not today."""
    here, today = moment.astimezone(), (now or datetime.datetime.now(datetime.UTC)).astimezone()
    return here.strftime("%H:%M:%S" if here.date() == today.date() else "%Y-%m-%d %H:%M:%S")


def what(data: object, resource_type: str | None, resource_id: str | None) -> str:
    """What an event is about, for people: its title, or else its resource."""
    fields = data if isinstance(data, dict) else {}
    named = next((fields[name] for name in NAMES if isinstance(fields.get(name), str)), None)
    error = fields.get("error_message")
    parts = [named, error if isinstance(error, str) else None]
    said = ": ".join(part for part in parts if part)
    return plain(said) or plain(f"{resource_type} {resource_id}" if resource_type else "")


def line(
    *,
    time: datetime.datetime,
    severity: str,
    event_type: str,
    about: str,
    actor: str | None,
) -> str:
    """An event in one line; click takes the colours out where nobody would see them."""
    return "  ".join(
        (
            click.style(local(time), dim=True),
            click.style(f"{plain(event_type):<29}", fg=COLOURS.get(severity)),
            about,
            click.style(f"by {plain(actor)}" if actor else "", dim=True),
        )
    ).rstrip()


def rate(bytes_per_second: int) -> str:
    """A speed for people, such as ``1.5 MB/s``; nothing where nothing moves."""
    if bytes_per_second <= 0:
        return ""
    amount = float(bytes_per_second)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}/s" if unit == "B" else f"{amount:.1f} {unit}/s"
        amount /= 1000
    return f"{amount:.1f} GB/s"


def span(seconds: int | None) -> str:
    """A time for people, such as ``1h 05m``."""
    if seconds is None or seconds < 0:
        return ""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s"
