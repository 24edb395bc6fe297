"""Logging: one line per event, for people on a terminal or as JSON."""

import logging
import sys

import structlog

from mediabus.runtime.settings import LogSettings
from mediabus.runtime.visible import plain


def set_up(settings: LogSettings) -> None:
    """Send the log of mediabus, and warnings of its libraries, to standard error."""
    as_console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(
            fmt="%H:%M:%S" if as_console else "iso", utc=not as_console
        ),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if as_console
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ]
            if not as_console
            else [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _make_visible,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mediabus").setLevel(settings.level.upper())


def _make_visible(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace control characters and line breaks in the console format. JSON escapes them."""
    return {
        name: plain(value) if isinstance(value, str) and name != "exception" else value
        for name, value in event.items()
    }
