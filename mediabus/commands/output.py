"""Format events for a terminal: one line each, with control characters made visible."""

import datetime
from typing import Final

import click

from mediabus.runtime.visible import plain

COLOURS: Final = {"info": "green", "warning": "yellow", "error": "red"}

NAMES: Final = ("title", "media_title", "job_name", "client", "path")
"""Fields of ``data`` that name the subject of an event, the most specific first."""


def local_time(moment: datetime.datetime, *, now: datetime.datetime | None = None) -> str:
    """Format a time in the local time zone, with its date unless that is today."""
    here, today = moment.astimezone(), (now or datetime.datetime.now(datetime.UTC)).astimezone()
    return here.strftime("%H:%M:%S" if here.date() == today.date() else "%Y-%m-%d %H:%M:%S")


def summary_of(data: object, resource_type: str | None, resource_id: str | None) -> str:
    """Summarize an event: its title and error message, or else its resource."""
    fields = data if isinstance(data, dict) else {}
    name = next((fields[key] for key in NAMES if isinstance(fields.get(key), str)), None)
    messages = (fields.get("error_message"), fields.get("warning"))
    parts = [name, *(message for message in messages if isinstance(message, str))]
    summary = ": ".join(part for part in parts if part)
    return plain(summary) or plain(f"{resource_type} {resource_id}" if resource_type else "")


def actor_text(actor: str, *, is_verified: bool) -> str:
    """Format an actor, verified by a key or claimed by the publisher."""
    return f"{actor} ({'verified' if is_verified else 'claimed'})"


def event_line(
    *,
    time: datetime.datetime,
    severity: str,
    event_type: str,
    about: str,
    actor: str | None,
) -> str:
    """Format an event as one line. click removes the colours when the output is not a terminal."""
    return "  ".join(
        (
            click.style(local_time(time), dim=True),
            click.style(f"{plain(event_type):<29}", fg=COLOURS.get(severity)),
            plain(about),
            click.style(f"by {plain(actor)}" if actor else "", dim=True),
        )
    ).rstrip()


def format_rate(bytes_per_second: int) -> str:
    """Format a rate, such as ``1.5 MB/s``; zero gives an empty string."""
    if bytes_per_second <= 0:
        return ""
    amount = float(bytes_per_second)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}/s" if unit == "B" else f"{amount:.1f} {unit}/s"
        amount /= 1000
    return f"{amount:.1f} GB/s"


def format_duration(seconds: int | None) -> str:
    """Format a duration, such as ``1h 05m``; None gives an empty string."""
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
