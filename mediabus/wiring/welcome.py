"""The text that `mediabus up` prints once everything runs."""

import shutil
import sys
from pathlib import Path

import click

from mediabus.runtime.nats.logins import without_login
from mediabus.runtime.settings import Settings
from mediabus.runtime.settings_file import CONNECTION_FILE
from mediabus.wiring.registry import SERVICE


def page_address(settings: Settings) -> str:
    """Return the address of the pages, as a browser on this machine opens it."""
    port = SERVICE.port if settings.http.port is None else settings.http.port
    host = settings.http.host
    shown = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104 - all addresses
    shown = f"[{shown}]" if ":" in shown else shown
    return f"http://{shown}:{port}{settings.web.base_path.rstrip('/')}/"


def print_welcome(
    settings: Settings, login: str, *, file: str | Path | None = None, is_new: bool = False
) -> None:
    """Print the addresses of the pages and of NATS, and commands to try in another terminal.

    ``login`` are the lines of the pages about a generated password; empty if there is none.
    ``file`` is the settings file, ``is_new`` if this start wrote it.
    """
    servers = ", ".join(map(without_login, (settings.nats.url or "").split(",")))
    prefix = "mediabus"
    if settings.data_dir != type(settings)().data_dir:
        prefix = f"mediabus --data-dir {settings.data_dir}"
    connection_file = Path(settings.data_dir) / CONNECTION_FILE
    activate = Path(sys.executable).with_name("activate")
    activation = "" if shutil.which("mediabus") else f"  . {activate}\n"
    click.echo(
        f"""
{click.style("mediabus is up.", fg="green", bold=True)}  Open {page_address(settings)} in a browser.
{login}
NATS: {servers}
Settings: {_about(file, is_new=is_new)}

Try, in another terminal:

{activation}  {prefix} tail                        follow events live
  export NATS_URL=$(grep -o 'nats://[^"]*' {connection_file})
  nats req media.create \\
      '{{"type": "movie", "title": "Dune", "year": 2021}}'
  {prefix} publish job.executed --data '{{"job_name": "hello"}}'
  {prefix} history                     show stored events
  {prefix} doctor                      check every part

Press Ctrl-C to stop. The data stays in {settings.data_dir}.
""",
        err=True,
    )


def _about(file: str | Path | None, *, is_new: bool) -> str:
    """Return where the settings are."""
    if file is None:
        return "the defaults"
    return f"{file}" + (" (new: every setting is in it, as a comment)" if is_new else "")
