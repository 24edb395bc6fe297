"""The commands that run until cancelled, and `mediabus migrate`."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from mediabus.commands.context import Face
from mediabus.commands.help import examples
from mediabus.runtime.process import logs
from mediabus.runtime.settings import Settings
from mediabus.runtime.settings_variables import unknown_variables
from mediabus.wiring import processes, welcome
from mediabus.wiring.first_settings import write_first_settings
from mediabus.wiring.registry import PROCESSES, Process
from mediabus.wiring.reloading import Source

log: Final = logging.getLogger("mediabus.process")


def _with_warnings(face: Face, settings: Settings) -> Settings:
    """Return the settings, after logging exposed secrets and unknown variables."""
    logs.set_up(settings.log)
    for line in face.exposed() + unknown_variables(os.environ):
        log.warning(line)
    return settings


@click.command(
    epilog=examples(
        "mediabus up",
        "mediabus --data-dir /var/lib/mediabus up",
        "MEDIABUS_DATABASE_URL=postgresql://db/mediabus mediabus up",
    )
)
@click.pass_obj
def up(face: Face) -> None:
    """Run everything on this machine.

    This includes NATS and PostgreSQL, with their data in the data directory, unless the settings
    name servers. The first start writes a settings file there, unless --config names another.
    Stop it with Ctrl-C.
    """
    file = face.settings_file

    def ready(settings: Settings, login: str) -> None:
        written = None if file else write_first_settings(Path(settings.data_dir))
        is_new = written is not None
        welcome.print_welcome(settings, login, file=written or file, is_new=is_new)

    processes.up(_with_warnings(face, face.settings()), ready, _source(face, face.settings))


def _source(face: Face, load: Callable[[], Settings]) -> Source:
    """Return where the settings come from. The file may appear later: `mediabus up` writes one."""
    return Source(lambda: face.settings_file, load)


def __getattr__(name: str) -> click.Command:
    """Return the command of a process, made from its entry in the registry."""
    for process in PROCESSES:
        if process.name == name:
            return _command_of(process)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run_registered(process: Process, face: Face) -> None:
    """Run a process of the registry until SIGTERM."""
    settings = _with_warnings(face, face.resolved_settings())
    processes.run_process(process, settings, _source(face, face.resolved_settings))


def _command_of(process: Process) -> click.Command:
    def run(face: Face) -> None:
        run_registered(process, face)

    return click.Command(
        process.name,
        callback=click.pass_obj(run),
        help=f"{process.summary}\n\n{process.description}",
        epilog=examples(*process.examples),
    )


@click.command(
    epilog=examples(
        "mediabus migrate",
        "MEDIABUS_DATABASE_URL=postgresql://admin@db/mediabus mediabus migrate",
    )
)
@click.pass_obj
def migrate(face: Face) -> None:
    """Update the database schema."""
    applied = processes.migrate(_with_warnings(face, face.resolved_settings()))
    click.echo(
        f"applied migrations {', '.join(map(str, applied))}"
        if applied
        else "the schema is up to date"
    )
