"""The errors that a command prints as one line, without a traceback."""

from collections.abc import Iterator
from typing import Final

import asyncpg

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.backup.archive import BackupError
from mediabus.consumers.dead_letters import NoSuchDeadLetter, TooLarge
from mediabus.runtime.embedded.child import ServerFailed
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import CannotConnect, PublishFailed
from mediabus.runtime.nats.client import NotAllowed
from mediabus.runtime.nats.ownership import NotOurs
from mediabus.runtime.nats.refusals import ConsumerRefused, StreamRefused
from mediabus.runtime.nats.streams import ServerTooOld
from mediabus.runtime.postgres.database import AWAY, CannotLogIn
from mediabus.runtime.postgres.preconditions import DatabaseTooOld, DatabaseUnfit
from mediabus.runtime.settings import SettingsError
from mediabus.schemas.codec import InvalidEvent


class Unanswered(Exception):
    """A command cannot continue. The message has the reason and what to do."""


EXPECTED: Final = (
    BackupError,
    CannotConnect,
    CannotLogIn,
    ConsumerRefused,
    DatabaseTooOld,
    DatabaseUnfit,
    InvalidEvent,
    NoAnswer,
    NoSuchDeadLetter,
    NotAllowed,
    NotOurs,
    OperationFailed,
    PublishFailed,
    ServerFailed,
    ServerTooOld,
    SettingsError,
    StreamRefused,
    TooLarge,
    Unanswered,
)
FORBIDDEN: Final = asyncpg.InsufficientPrivilegeError


def lines_about(error: BaseException) -> list[str]:
    """Return one line for each error; none if any of them is unexpected, that is, a bug."""
    errors = list(_each(error))
    if not all(isinstance(inner, (*EXPECTED, *AWAY, FORBIDDEN)) for inner in errors):
        return []
    return [line for inner in errors for line in _lines(inner)]


def _lines(error: BaseException) -> list[str]:
    """Return the message as one line. The log of a server that failed to start keeps its lines."""
    if isinstance(error, ServerFailed):
        return str(error).splitlines()
    return [" ".join(_message(error).split())]


def exit_code(error: BaseException) -> int:
    """Return 2 for invalid settings, else 1."""
    return 2 if any(isinstance(inner, SettingsError) for inner in _each(error)) else 1


def _message(error: BaseException) -> str:
    if isinstance(error, EXPECTED):
        return str(error)
    if isinstance(error, FORBIDDEN):
        return f"PostgreSQL: {error}. Use a role with this right in MEDIABUS_DATABASE_URL"
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return (
            f"PostgreSQL is read-only ({error}). The database URL must lead to the primary, not to "
            "a standby, and default_transaction_read_only must be off"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    message = error_text(error)
    return f"cannot reach a server ({message}): run `mediabus doctor` to see which one"


def _each(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group and in nested groups, and all errors of the settings."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _each(inner)
    else:
        yield error
    if isinstance(error, SettingsError):
        yield from error.further
