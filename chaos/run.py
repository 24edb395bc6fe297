"""Run faults against a mediabus under load, and wait for the recovery from each."""

import asyncio
import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from chaos import clock, disks, downloads
from chaos.faults import KINDS, Fault, Stage, planned
from chaos.ordeal import Findings, run_under_load
from chaos.recovery import recovered, shown

MAX_CONCURRENT_FAULTS: Final = 3
"""Faults at the same time, including their recovery."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a fault.

    ``began`` is in seconds since the start of the run. ``answering`` and ``flowing`` are the
    seconds from the end of the fault until an operation got a reply, and until its event was
    stored; None if that took too long. ``alone`` is true if no other fault ran at the same time.
    """

    fault: Fault
    began: float
    answering: float | None
    flowing: float | None
    alone: bool


@dataclasses.dataclass
class Report:
    """The result of a run.

    ``impossible`` maps each kind of fault that this machine does not allow to the reason.
    """

    seed: int
    impossible: dict[str, str]
    outcomes: list[Outcome]
    findings: Findings

    @property
    def is_good(self) -> bool:
        """Return whether all checks passed and mediabus recovered from every fault."""
        recovered = all(outcome.flowing is not None for outcome in self.outcomes)
        return recovered and self.findings.are_good


def impossible(folder: Path) -> dict[str, str]:
    """Return the kinds of fault that this machine does not allow, each with the reason."""
    found = {}
    if reason := disks.is_possible(folder / "probe"):
        found["disk full"] = reason
    if reason := clock.is_possible():
        found |= {"clock +1 h": reason, "clock -1 h": reason}
    if reason := downloads.is_possible():
        found["download client for the monitor"] = reason
    return found


async def run(
    folder: Path,
    *,
    seed: int,
    faults: int,
    seconds: float,
    kinds: Sequence[str],
    operations: float,
    publishes: float,
    opening: Sequence[Fault] = (),
) -> Report:
    """Run until ``faults`` have happened or ``seconds`` have passed.

    ``operations`` and ``publishes`` are rates per second. The faults of ``opening`` come before
    those of the seed.
    """
    excluded = impossible(folder)
    plan = planned(seed, [kind for kind in kinds if kind not in excluded], opening)
    outcomes: list[Outcome] = []

    async def inject(stage: Stage) -> None:
        await _FaultRunner(stage, outcomes).run(plan, faults, seconds)

    findings = await run_under_load(folder, inject, operations=operations, publishes=publishes)
    return Report(seed, excluded, outcomes, findings)


class _FaultRunner:
    """Runs several faults at the same time, each against a different target."""

    def __init__(self, stage: Stage, outcomes: list[Outcome]) -> None:
        self._stage = stage
        self._outcomes = outcomes
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._began = time.monotonic()

    async def run(self, plan: Iterator[Fault], faults: int, seconds: float) -> None:
        """Run the first ``faults`` of the plan, or fewer if ``seconds`` pass first."""
        async with asyncio.TaskGroup() as tasks:
            for fault in plan:
                if fault.number > faults or self._time() > seconds:
                    return
                await asyncio.sleep(fault.pause)
                target = self._stage.resolve(fault.target)
                alone = KINDS[fault.kind].alone
                await self._wait_for_turn(target, alone=alone)
                task = tasks.create_task(self._run_one(fault, target))
                self._busy[target] = task
                task.add_done_callback(functools.partial(self._release, target))
                if alone:
                    await task

    def _release(self, target: str, _: object) -> None:
        del self._busy[target]

    def _time(self) -> float:
        return time.monotonic() - self._began

    async def _wait_for_turn(self, target: str, *, alone: bool) -> None:
        """Wait until a fault against the target may begin."""
        limit = 1 if alone else MAX_CONCURRENT_FAULTS
        while target in self._busy or len(self._busy) >= limit:
            await asyncio.wait(self._busy.values(), return_when=asyncio.FIRST_COMPLETED)

    async def _run_one(self, fault: Fault, target: str) -> None:
        began = self._time()
        print_fault(fault, f"for {fault.seconds:.1f} s")
        async with KINDS[fault.kind].happens(self._stage, target):
            await asyncio.sleep(fault.seconds)
        alone = len(self._busy) == 1
        answering, flowing = await recovered(self._stage.load, self._stage.pool)
        alone = alone and len(self._busy) == 1
        self._outcomes.append(Outcome(fault, began, answering, flowing, alone))
        print_fault(fault, f"answering after {shown(answering)}, flowing after {shown(flowing)}")


def print_fault(fault: Fault, message: str) -> None:
    """Print a line about a fault with the time."""
    moment = time.strftime("%H:%M:%S")
    print(f"  {moment} {fault.number:>3} {fault.kind}: {fault.target}: {message}", flush=True)
