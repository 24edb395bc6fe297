"""`mediabus doctor`: run the checks and print their findings."""

import asyncio
import contextlib
import sys

import click
import msgspec

from mediabus.commands.context import Face, json_lines
from mediabus.commands.help import examples
from mediabus.doctor.checks import examine
from mediabus.doctor.finding import Finding
from mediabus.runtime.visible import json_line, plain


@click.command(
    epilog=examples("mediabus doctor", "mediabus doctor --json | jq 'select(.ok | not)'")
)
@json_lines
@click.pass_obj
def doctor(face: Face, as_json: bool) -> None:
    """Check every part of mediabus; exit with 1 if there is a problem."""
    sys.exit(asyncio.run(_examine(face, as_json=as_json)))


async def _examine(face: Face, *, as_json: bool) -> int:
    healthy = True
    async with contextlib.aclosing(examine(face)) as findings:
        async for finding in findings:
            healthy = healthy and finding.ok
            _show(finding, as_json=as_json)
    return 0 if healthy else 1


def _show(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        click.echo(json_line(msgspec.json.encode(finding)))
        return
    mark = click.style("ok     ", fg="green") if finding.ok else click.style("problem", fg="red")
    click.echo(f"{mark}  {plain(finding.name):<19} {plain(finding.found)}")
    if finding.advice:
        click.echo(f"{'':<9}{'':<19} {click.style('->', bold=True)} {plain(finding.advice)}")
