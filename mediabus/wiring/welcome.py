"""What `mediabus up` says once everything runs."""

import shutil
import sys
from pathlib import Path

import click

from service.runtime.bus import without_password
from service.runtime.settings import CONNECTION_FILE, Settings


def say(settings: Settings) -> None:
    """Prints where everything is and what to try next, for the terminal beside this one."""
    where = ", ".join(map(without_password, (settings.nats.url or "").split(",")))
    prefix = "mediabus"
    if settings.data_dir != type(settings)().data_dir:
        prefix = f"mediabus --data-dir {settings.data_dir}"
    found = Path(settings.data_dir) / CONNECTION_FILE
    activate = Path(sys.executable).with_name("activate")
    first = "" if shutil.which("mediabus") else f"  . {activate}\n"
    click.echo(
        f"""
{click.style("mediabus is up.", fg="green", bold=True)}  NATS: {where}

Try, in another terminal:

{first}  {prefix} tail                        follow what happens
  export NATS_URL=$(grep -o 'nats://[^"]*' {found})
  nats req media.create \\
      '{{"type": "movie", "title": "Dune", "year": 2021}}'
  {prefix} publish job.executed --data '{{"job_name": "hello"}}'
  {prefix} history                     what happened
  {prefix} doctor                      whether all is well

Ctrl-C stops it; what is stored stays in {settings.data_dir}.
""",
        err=True,
    )
