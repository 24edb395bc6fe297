"""What `mediabus up` says once everything runs."""

import click

from service.runtime.settings import Settings


def say(settings: Settings) -> None:
    """Prints where everything is and what to try next, for the terminal beside this one."""
    prefix = "mediabus"
    if settings.data_dir != type(settings)().data_dir:
        prefix = f"mediabus --data-dir {settings.data_dir}"
    click.echo(
        f"""
{click.style("mediabus is up.", fg="green", bold=True)}  NATS: {settings.nats.url}

Try, in another terminal:

  {prefix} tail                        follow what happens
  nats --server {settings.nats.url} req media.create \\
      '{{"type": "movie", "title": "Dune", "year": 2021}}'
  {prefix} publish job.executed --data '{{"job_name": "hello"}}'
  {prefix} history                     what happened
  {prefix} doctor                      whether all is well

Ctrl-C stops it; what is stored stays in {settings.data_dir}.
""",
        err=True,
    )
