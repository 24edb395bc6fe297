"""`mediabus doctor`: what is reachable, what lags, what to do about it."""

import asyncio
import contextlib
import sys

import click
import msgspec

from service.cli.checks import Finding, examine
from service.cli.face import Face, json_lines
from service.cli.help import examples


@click.command(
    epilog=examples("mediabus doctor", "mediabus doctor --json | jq 'select(.ok | not)'")
)
@json_lines
@click.pass_obj
def doctor(face: Face, as_json: bool) -> None:
    """Check that all parts are there and keep up; the exit code is 1 where one does not."""
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
        click.echo(msgspec.json.encode(finding))
        return
    mark = click.style("ok     ", fg="green") if finding.ok else click.style("problem", fg="red")
    click.echo(f"{mark}  {finding.name:<19} {finding.found}")
    if finding.advice:
        click.echo(f"{'':<9}{'':<19} {click.style('->', bold=True)} {finding.advice}")
