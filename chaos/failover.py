"""Replace servers of a cluster under load: what is lost, and how long nothing is answered."""

import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from chaos.ledger import Ledger
from chaos.load import Load
from chaos.ordeal import Findings, findings_of, longest_gap
from chaos.recovery import recovered, shown
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import Settings
from tests.support.processes import Name, Process, processes

PROCESSES: Final[tuple[Name, ...]] = ("service", "service", "persist", "persist")


@dataclasses.dataclass(frozen=True)
class Replacement:
    """A server that was replaced. Times are in seconds.

    ``silent`` is the longest time without an answer to any operation, ``refused`` that without an
    acknowledged direct publish. ``flowing`` is the time from the end of the replacement until the
    event of a new operation was stored; None if never.
    """

    server: str
    silent: float
    refused: float
    flowing: float | None


@dataclasses.dataclass
class Report:
    """The replacements of a run, and what was found afterwards."""

    replacements: list[Replacement]
    findings: Findings

    @property
    def is_good(self) -> bool:
        """Return whether all checks passed and mediabus recovered each time."""
        flowing = all(one.flowing is not None for one in self.replacements)
        return flowing and self.findings.are_good


class Stage:
    """A mediabus under load, on servers that are replaced."""

    def __init__(self, load: Load, pool: Pool, running: Sequence[Process]) -> None:
        self.processes = running
        self.replacements: list[Replacement] = []
        self._load = load
        self._pool = pool

    async def measure(self, server: str, replace: Callable[[], Awaitable[object]]) -> None:
        """Replace a server, and wait until an operation is answered and its event stored."""
        began = time.monotonic()
        await replace()
        _, flowing = await recovered(self._load, self._pool)
        silent = _longest_gap_since(began, self._load.answers)
        refused = _longest_gap_since(began, self._load.publishes)
        self.replacements.append(Replacement(server, silent, refused, flowing))
        moment = time.strftime("%H:%M:%S")
        print(
            f"  {moment} {server}: {silent:.2f} s without an answer, {refused:.2f} s without a "
            f"publish, events stored after {shown(flowing)}",
            flush=True,
        )


def _longest_gap_since(began: float, moments: Sequence[float]) -> float:
    return longest_gap([began, *itertools.dropwhile(lambda moment: moment < began, moments)])


async def run(
    settings: Settings,
    folder: Path,
    happening: Callable[[Stage], Awaitable[None]],
    *,
    operations: float,
    publishes: float,
) -> Report:
    """Run two services and two persisters under load while ``happening`` runs.

    ``operations`` and ``publishes`` are rates per second.

    Raises:
        AssertionError: a process ended by itself.
    """
    began = time.monotonic()
    ledger = Ledger(folder / "ledger")
    async with open_pool(settings.database, size=4) as pool:
        await migrate(pool)
        with processes(settings, folder, *PROCESSES) as running:
            async with connect(settings.nats, name="chaos") as bus:
                load = Load(bus, ledger, operations=operations, publishes=publishes)
                stage = Stage(load, pool, running)
                async with ledger.open(), load.working():
                    await happening(stage)
                findings = await findings_of(load, pool, bus, ledger)
            for process in running:
                assert process.is_ready, f"{process.name} is not ready"
    findings = dataclasses.replace(findings, took=time.monotonic() - began)
    return Report(stage.replacements, findings)


def table(report: Report) -> str:
    """Return Markdown: a row for each replacement, then the figures of the run."""
    findings, verdict = report.findings, report.findings.verdict
    rows = [
        f"| {one.server} | {one.silent:.2f} s | {one.refused:.2f} s | {shown(one.flowing)} |"
        for one in report.replacements
    ]
    figures = (
        f"{findings.operations} operations, {findings.uncertain} of them without a certain answer, "
        f"and {findings.published} direct publishes: {verdict.acknowledged} events acknowledged, "
        f"{verdict.stored} stored, {len(verdict.lost)} lost, {len(verdict.twice)} twice, "
        f"{len(verdict.misordered)} misordered, {findings.dead_letters} dead letters"
    )
    checks = {"lost": verdict.lost, "twice": verdict.twice, "misordered": verdict.misordered}
    checks |= {"half done": verdict.half_done, "unasked": verdict.unasked}
    checks |= {
        "surprise": findings.surprises,
        "not stored": list(filter(None, [findings.unstored])),
    }
    examples = [f"{check}: {one}" for check, found in checks.items() for one in found[:5]]
    head = [
        "| server | longest time without an answer | without a publish | stored again after |",
        "|---|--:|--:|--:|",
    ]
    return "\n".join([*head, *rows, "", figures, *examples])
