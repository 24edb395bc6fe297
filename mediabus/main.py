"""The command line: its options, its commands, and what becomes of errors."""

import contextlib
import os
import sys
from typing import Final, NoReturn

import click

from service.cli.help import LazyGroup, examples

HELP: Final = """The event backbone of a media library: what happens to media and downloads becomes
typed events on NATS, kept in PostgreSQL, once each."""

COMMANDS: Final = {
    "up": ("service.cli.daemons", "Run everything on this machine."),
    "publish": ("service.cli.publish", "Publish an event and print its id, once it is stored."),
    "tail": ("service.cli.tail", "Show events as they happen."),
    "history": ("service.cli.history", "Show what happened, newest first."),
    "top": ("service.cli.top", "Show the downloads under way, as they change."),
    "clients": ("service.cli.clients", "Show the download clients, and why one does not answer."),
    "dead": (
        "service.cli.dead",
        "Look at dead letters: messages that no consumer could use, with the reason.",
    ),
    "replay": (
        "service.cli.replay",
        "Store again what the stream still holds, or feed old events to a consumer.",
    ),
    "doctor": (
        "service.cli.doctor",
        "Check that all parts are there and keep up; the exit code is 1 where one does not.",
    ),
    "schema": (
        "service.cli.schema",
        "Print what may be said on the bus, derived from the event types.",
    ),
    "service": ("service.cli.daemons", "Run the operations on media and downloads."),
    "monitor": ("service.cli.daemons", "Run the monitor of the download clients."),
    "persist": ("service.cli.daemons", "Run a persister, which stores every event."),
    "secure": (
        "service.cli.secure",
        "Make keys, certificates and roles in DIR, and a nats.conf that uses them.",
    ),
    "migrate": ("service.cli.daemons", "Bring the database schema up to date."),
}


class Commands(LazyGroup):
    """The commands of mediabus."""

    lazy = COMMANDS


@click.group(
    cls=Commands,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "mediabus up                           everything on this machine, to try it out",
        "mediabus tail downloads               what happens to downloads, live",
        "mediabus history --severity error     what went wrong",
    ),
)
@click.option("--config", metavar="FILE", help="The settings, in TOML [MEDIABUS_CONFIG].")
@click.option(
    "--data-dir", metavar="DIR", help="Where `mediabus up` keeps everything [MEDIABUS_DATA_DIR]."
)
@click.option("--nats", metavar="URL", help="The NATS server, or several [MEDIABUS_NATS_URL].")
@click.version_option(package_name="mediabus", message="%(version)s")
@click.pass_context
def cli(context: click.Context, config: str | None, data_dir: str | None, nats: str | None) -> None:
    """Keeps the options that all commands share."""
    from service.cli.face import Face  # noqa: PLC0415 - a help page needs none of it

    context.obj = Face(config, data_dir, nats)


def main() -> NoReturn:
    """Runs a command and turns what goes wrong into a line and an exit code."""
    code = 0
    try:
        with cli.make_context("mediabus", sys.argv[1:]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:  # a question that nobody said yes to
        click.echo("mediabus: nothing was done", err=True)
        code = 130
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # whoever read us, `head` perhaps, has enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001 - what is not expected is raised again in there
        code = _explain(error)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Says what went wrong; raises it again where that is a fault of ours."""
    from service.cli.problems import exit_code, lines_about  # noqa: PLC0415 - as above

    lines = lines_about(error)
    if not lines:
        raise error
    for line in lines:
        click.secho(f"mediabus: {line}", fg="red", err=True)
    return exit_code(error)


if __name__ == "__main__":
    main()
