"""The commands that run for ever, and the one that prepares the database for them."""

import logging
import os
from typing import Final

import click

from service.cli import processes, welcome
from service.cli.face import Face
from service.cli.help import examples
from service.runtime import logs
from service.runtime.settings import Settings, unknown_variables

log: Final = logging.getLogger("mediabus.process")


def _begun(face: Face, settings: Settings) -> Settings:
    """The settings, with a word about those that others may read, and those that are none."""
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

    NATS and PostgreSQL are started too, with their data in the data directory, unless the settings
    name servers. Stop it with Ctrl-C.
    """
    processes.up(_begun(face, face.settings()), welcome.say)


@click.command(epilog=examples("mediabus service", "mediabus --config mediabus.toml service"))
@click.pass_obj
def service(face: Face) -> None:
    """Run the operations on media and downloads.

    They are NATS services; the outbox relay runs beside them. Any number of these processes may
    run side by side.
    """
    processes.service(_begun(face, face.resolved_settings()))


@click.command(epilog=examples("mediabus monitor", "mediabus --config mediabus.toml monitor"))
@click.pass_obj
def monitor(face: Face) -> None:
    """Run the monitor of the download clients.

    It tells what happens to downloads inside them.
    """
    processes.monitor(_begun(face, face.resolved_settings()))


@click.command(epilog=examples("mediabus persist", "MEDIABUS_PERSISTER_WRITERS=4 mediabus persist"))
@click.pass_obj
def persist(face: Face) -> None:
    """Run a persister, which stores every event.

    It writes to PostgreSQL, and answers `mediabus history`. Any number of these processes may run
    side by side.
    """
    processes.persist(_begun(face, face.resolved_settings()))


@click.command(
    epilog=examples(
        "mediabus migrate",
        "MEDIABUS_DATABASE_URL=postgresql://admin@db/mediabus mediabus migrate",
    )
)
@click.pass_obj
def migrate(face: Face) -> None:
    """Bring the database schema up to date."""
    applied = processes.migrate(_begun(face, face.resolved_settings()))
    click.echo(f"applied {', '.join(map(str, applied))}" if applied else "nothing to do")
