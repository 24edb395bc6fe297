"""The command line: global options, the list of commands, and error handling."""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Final, NoReturn

from mediabus.wiring.registry import PROCESSES

DAEMONS: Final = {"up", *(process.name for process in PROCESSES)}
"""The commands that run until they are stopped."""


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """Exit on a signal that arrives before the command runs: a daemon with 0, as it does later."""
    sys.exit(0 if DAEMONS.intersection(sys.argv[1:]) else 128 + number)


def _load_anyway(_: int, __: FrameType | None) -> None:
    """Ignore a request to reload that arrives before the settings were loaded."""


if os.getpid() == 1:
    # Before the imports, which take most of a start: the kernel drops a signal that process 1 of a
    # container does not handle, and the container would be killed after its grace period.
    signal.signal(signal.SIGTERM, _leave)

import click  # noqa: E402 - see above

from mediabus.commands.help import LazyGroup, examples  # noqa: E402
from mediabus.runtime.visible import make_output_visible, plain  # noqa: E402

COMPLETE: Final = "_MEDIABUS_COMPLETE"
"""The variable by which a shell asks for completions; see ``mediabus completion``."""

HELP: Final = """The event backbone of a media library: changes to media and downloads become typed
events on NATS, and PostgreSQL stores each event exactly once."""

COMMANDS: Final = {
    "up": ("mediabus.commands.daemons", "Run everything on this machine."),
    "publish": (
        "mediabus.commands.publish",
        "Publish an event, wait until NATS has stored it, and print its id.",
    ),
    "tail": ("mediabus.commands.tail", "Show events as they happen."),
    "history": ("mediabus.commands.history", "Show stored events, newest first."),
    "top": ("mediabus.commands.top", "Show the downloads in progress, live."),
    "clients": (
        "mediabus.commands.clients",
        "Show the download clients, and why one is unreachable.",
    ),
    "apps": (
        "mediabus.commands.apps",
        "Show the applications, connect their webhooks, and import their past.",
    ),
    "dead": (
        "mediabus.commands.dead",
        "Inspect, retry or discard dead letters: messages that a consumer could not process.",
    ),
    "replay": (
        "mediabus.commands.replay",
        "Store the events that the history lacks, or replay old events to a consumer.",
    ),
    "backup": (
        "mediabus.backup.command",
        "Back up PostgreSQL and the NATS streams to one file, while mediabus runs.",
    ),
    "restore": (
        "mediabus.backup.command",
        "Restore a backup to empty servers, or to an empty data directory.",
    ),
    "doctor": (
        "mediabus.doctor.command",
        "Check every part of mediabus; exit with 1 if there is a problem.",
    ),
    "config": (
        "mediabus.config.command",
        "Check the settings, or print their JSON Schema for editors.",
    ),
    "schema": (
        "mediabus.commands.schema",
        "Print the schemas of events and operations.",
    ),
    **{process.name: (process.command, process.summary) for process in PROCESSES},
    "secure": (
        "mediabus.secure.command",
        "Create keys, certificates and a nats.conf that uses them in DIR.",
    ),
    "migrate": ("mediabus.commands.daemons", "Update the database schema."),
    "completion": (
        "mediabus.commands.completion",
        "Print the script by which a shell completes commands, options and files.",
    ),
}


ANY_PATH: Final = click.Path(readable=False)
"""Shells complete it. What reads it checks it, and reports more than click does."""


class Commands(LazyGroup):
    """The commands of mediabus."""

    lazy = COMMANDS


@click.group(
    cls=Commands,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "mediabus up                           run everything on this machine",
        "mediabus tail downloads               show download events live",
        "mediabus history --severity error     show stored errors",
    ),
)
@click.option(
    "--config", metavar="FILE", type=ANY_PATH, help="Settings file, TOML [MEDIABUS_CONFIG]."
)
@click.option(
    "--data-dir",
    metavar="DIR",
    type=ANY_PATH,
    help="Data directory of `mediabus up` [MEDIABUS_DATA_DIR].",
)
@click.option(
    "--nats", metavar="URL", help="NATS server, or several separated by commas [MEDIABUS_NATS_URL]."
)
@click.version_option(package_name="mediabus", message="%(version)s")
@click.pass_context
def cli(context: click.Context, config: str | None, data_dir: str | None, nats: str | None) -> None:
    """Store the options that all commands share."""
    from mediabus.commands.context import Face  # noqa: PLC0415 - a help page needs none of it

    context.obj = Face(config, data_dir, nats)


def main() -> NoReturn:
    """Run a command; print an expected error as one line and exit with its code."""
    code = 0
    make_output_visible()
    if COMPLETE in os.environ:
        from mediabus.commands.completion import complete  # noqa: PLC0415 - as above

        sys.exit(complete(cli, os.environ[COMPLETE]))
    if DAEMONS.intersection(sys.argv[1:]):
        signal.signal(signal.SIGTERM, _leave)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not with nohup
            signal.signal(signal.SIGHUP, _load_anyway)
    try:
        with cli.make_context("mediabus", sys.argv[1:]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:  # the confirmation was refused
        click.echo("mediabus: aborted, nothing was changed", err=True)
        code = 130
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001 - _explain raises unexpected errors again
        code = _explain(error)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Print an expected error and return its exit code; raise an unexpected one again."""
    from mediabus.commands.errors import exit_code, lines_about  # noqa: PLC0415 - as above

    lines = lines_about(error)
    if not lines:
        raise error
    for line in lines:
        click.secho(f"mediabus: {plain(line)}", fg="red", err=True)
    return exit_code(error)


if __name__ == "__main__":
    main()
