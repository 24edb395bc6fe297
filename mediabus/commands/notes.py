"""Notes on standard error, apart from the output of a command."""

import click


def note(text: str) -> None:
    """Print a line to standard error for the person at the terminal."""
    click.secho(text, dim=True, err=True)
