"""`python -m website`: write the reference pages, check the links, or build the site."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from website import build, reference

ROOT: Final = Path(__file__).parents[1]


@click.group()
def website() -> None:
    """Build the documentation site."""


@website.command("reference")
def write_reference() -> None:
    """Write the pages that are made from the code: settings, command line, events, Python API."""
    reference.write(ROOT)


@website.command()
def check() -> None:
    """Check the links, the navigation and the reference; exit with 1 if something is wrong."""
    if found := [*reference.stale(ROOT), *build.problems(ROOT)]:
        raise click.ClickException("\n".join(found))


@website.command("build")
@click.option("--to", "target", default=ROOT / "dist", type=click.Path(path_type=Path))
def build_site(target: Path) -> None:
    """Build the site in the folder `site` of a folder, and check it."""
    try:
        click.echo(build.build(ROOT, target))
    except build.SiteBroken as error:
        raise click.ClickException(str(error)) from error
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    website()
