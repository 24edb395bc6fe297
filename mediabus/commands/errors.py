"""What goes wrong and is not a fault of the program: said in a line, without a traceback."""

from collections.abc import Iterator
from typing import Final

import asyncpg

from consumers.dead_letters import NoSuchLetter, TooLarge
from schemas.codec import InvalidEvent
from service.runtime.bus import CannotConnect, PublishFailed
from service.runtime.database import AWAY, CannotLogIn, DatabaseTooOld
from service.runtime.nats_client import NotAllowed
from service.runtime.settings import SettingsError
from service.runtime.streams import ServerTooOld


class Unanswered(Exception):
    """A service did not do what it was asked to; the message says why, and what to do."""


EXPECTED: Final = (
    CannotConnect,
    CannotLogIn,
    DatabaseTooOld,
    InvalidEvent,
    NoSuchLetter,
    NotAllowed,
    PublishFailed,
    ServerTooOld,
    SettingsError,
    TooLarge,
    Unanswered,
)
FORBIDDEN: Final = asyncpg.InsufficientPrivilegeError


def lines_about(error: BaseException) -> list[str]:
    """One line for each thing that went wrong; none where a fault of ours is among them."""
    errors = list(_each(error))
    if not all(isinstance(one, (*EXPECTED, *AWAY, FORBIDDEN)) for one in errors):
        return []
    return [" ".join(_words(one).split()) for one in errors]


def exit_code(error: BaseException) -> int:
    """2 for settings that cannot be used, else 1."""
    return 2 if any(isinstance(one, SettingsError) for one in _each(error)) else 1


def _words(error: BaseException) -> str:
    if isinstance(error, EXPECTED):
        return str(error)
    if isinstance(error, FORBIDDEN):
        return f"PostgreSQL: {error}: MEDIABUS_DATABASE_URL must name a role that may do this"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    said = str(error) or type(error).__name__
    return f"a server is out of reach ({said}): `mediabus doctor` says which"


def _each(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, in a group in a group, and so on."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _each(inner)
    else:
        yield error
