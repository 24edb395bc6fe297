"""Find every problem in the settings, by the parsers that the processes use."""

import os
from typing import Literal, NamedTuple

from mediabus.commands.context import Face
from mediabus.runtime.embedded.nats_server import installed_nats
from mediabus.runtime.embedded.postgres_server import installed_postgres
from mediabus.runtime.nats.credentials import credentials
from mediabus.runtime.nats.logins import servers_of
from mediabus.runtime.postgres.database_url import connect_arguments
from mediabus.runtime.process.file_permissions import exposed
from mediabus.runtime.redact import without_secrets
from mediabus.runtime.settings import Settings, SettingsError
from mediabus.runtime.settings_errors import Faults
from mediabus.runtime.settings_file import examined, resolved
from mediabus.runtime.settings_variables import PREFIX, unclaimed_variables, unknown_variables
from mediabus.wiring.registry import PROCESSES, imported


class Problem(NamedTuple):
    """A problem: its text names the key, or the variable, and what to write instead."""

    level: Literal["error", "warning"]
    text: str


class Report(NamedTuple):
    """All problems, and the settings without the keys that cannot be used.

    ``settings`` is None if the file as a whole cannot be used.
    """

    problems: tuple[Problem, ...]
    settings: Settings | None

    @property
    def exit_code(self) -> int:
        """Return 2 if a process would not start, 1 if there are only warnings, else 0."""
        levels = {problem.level for problem in self.problems}
        return 2 if "error" in levels else int("warning" in levels)


async def check(face: Face) -> Report:
    """Parse all that the processes parse when they start. Connects to nothing."""
    try:
        read, faults = examined(face.config, data_dir=face.data_dir)
    except SettingsError as error:
        return Report(tuple(_problem("error", str(one)) for one in (error, *error.further)), None)
    settings = face.with_options(read)
    await _check_processes(settings, faults)
    _check_servers(settings, faults)
    errors = [_problem("error", str(error)) for error in faults.found]
    warnings = [_problem("warning", text) for text in _warnings(face, settings)]
    return Report((*errors, *warnings), settings)


def variables() -> list[str]:
    """Return the names of the variables that settings can have."""
    return sorted(name for name in os.environ if name.startswith(PREFIX))


def _problem(level: Literal["error", "warning"], text: str) -> Problem:
    return Problem(level, without_secrets(text.removeprefix("settings: ")))


async def _check_processes(settings: Settings, faults: Faults) -> None:
    for process in PROCESSES:
        with faults.collected():
            config = imported(process.config)(settings) if process.config else None
            if process.check and config is not None:
                await imported(process.check)(config)


def _check_servers(settings: Settings, faults: Faults) -> None:
    nats, database = settings.nats, settings.database
    with faults.collected():
        credentials(nats)
    with faults.collected():
        if nats.url is not None:
            servers_of(nats.url, nats)
    for url in (database.url, database.events_url):
        with faults.collected():
            if url is not None:
                connect_arguments(url, database.password)
    with faults.collected():
        complete = resolved(settings)
        with faults.collected():
            if complete.nats.url is None:
                installed_nats()
        if complete.database.url is None:
            installed_postgres()


def _warnings(face: Face, settings: Settings) -> list[str]:
    return [
        *exposed(face.settings_file, settings),
        *unknown_variables(os.environ),
        *unclaimed_variables(settings, os.environ),
    ]
