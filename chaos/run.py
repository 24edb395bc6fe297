"""A run: fault after fault upon a mediabus under load, each followed until it is overcome."""

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from chaos import clock, disks, downloads
from chaos.faults import KINDS, Fault, Stage, planned
from chaos.load import Uncertain
from chaos.ordeal import Findings, endured
from service.runtime.database import AWAY

SIDE_BY_SIDE: Final = 3
"""Faults under way at a time, their recovery included."""

RECOVERS_WITHIN: Final = 120.0
IS_STORED: Final = "SELECT true FROM events WHERE correlation_id = $1"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a fault went. ``began`` is in seconds of the run; ``answering`` and ``flowing`` are
    seconds from the fault's end until an operation was answered, and until its event was stored;
    None where that took too long. ``alone``: no other fault was under way meanwhile."""

    fault: Fault
    began: float
    answering: float | None
    flowing: float | None
    alone: bool


@dataclasses.dataclass
class Report:
    """What a run found. ``impossible`` are the kinds of fault that this machine does not let us
    make, and why."""

    seed: int
    impossible: dict[str, str]
    outcomes: list[Outcome]
    findings: Findings

    @property
    def is_good(self) -> bool:
        """Nothing is wrong, and everything came back."""
        recovered = all(outcome.flowing is not None for outcome in self.outcomes)
        return recovered and self.findings.are_good


def impossible(folder: Path) -> dict[str, str]:
    """The kinds of fault that this machine does not let us make, or what else it lacks, and why."""
    found = {}
    if why := disks.is_possible(folder / "probe"):
        found["disk full"] = why
    if why := clock.is_possible():
        found |= {"clock +1 h": why, "clock -1 h": why}
    if why := downloads.is_possible():
        found["download client for the monitor"] = why
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
    """Runs until the faults or the seconds are through. ``operations`` and ``publishes`` are rates,
    a second. The faults are those of ``opening``, then those of the seed."""
    cannot = impossible(folder)
    plan = planned(seed, [kind for kind in kinds if kind not in cannot], opening)
    outcomes: list[Outcome] = []

    async def happening(stage: Stage) -> None:
        await _Torment(stage, outcomes).through(plan, faults, seconds)

    findings = await endured(folder, happening, operations=operations, publishes=publishes)
    return Report(seed, cannot, outcomes, findings)


class _Torment:
    """Faults, some at a time, each upon a target of its own."""

    def __init__(self, stage: Stage, outcomes: list[Outcome]) -> None:
        self._stage = stage
        self._outcomes = outcomes
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._began = time.monotonic()

    async def through(self, plan: Iterator[Fault], faults: int, seconds: float) -> None:
        """The plan's first ``faults``, or what there is time for."""
        async with asyncio.TaskGroup() as tasks:
            for fault in plan:
                if fault.number > faults or self._time() > seconds:
                    return
                await asyncio.sleep(fault.pause)
                target = self._stage.meant(fault.target)
                alone = KINDS[fault.kind].alone
                await self._room(target, alone=alone)
                task = tasks.create_task(self._happen(fault, target))
                self._busy[target] = task
                task.add_done_callback(functools.partial(self._is_over, target))
                if alone:
                    await task

    def _is_over(self, target: str, _: object) -> None:
        del self._busy[target]

    def _time(self) -> float:
        return time.monotonic() - self._began

    async def _room(self, target: str, *, alone: bool) -> None:
        """Waits until a fault may begin."""
        most = 1 if alone else SIDE_BY_SIDE
        while target in self._busy or len(self._busy) >= most:
            await asyncio.wait(self._busy.values(), return_when=asyncio.FIRST_COMPLETED)

    async def _happen(self, fault: Fault, target: str) -> None:
        began = self._time()
        say(fault, f"for {fault.seconds:.1f} s")
        async with KINDS[fault.kind].happens(self._stage, target):
            await asyncio.sleep(fault.seconds)
        alone = len(self._busy) == 1
        answering, flowing = await self._recovered()
        alone = alone and len(self._busy) == 1
        self._outcomes.append(Outcome(fault, began, answering, flowing, alone))
        say(fault, f"answering after {shown(answering)}, flowing after {shown(flowing)}")

    async def _recovered(self) -> tuple[float | None, float | None]:
        """Seconds until an operation is answered, and until its event is stored."""
        ended = time.monotonic()
        answering: float | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECOVERS_WITHIN):
                operation = await self._answered()
                answering = time.monotonic() - ended
                await self._stored(operation)
                return answering, time.monotonic() - ended
        return answering, None

    async def _answered(self) -> str:
        while True:
            try:
                return (await self._stage.load.create())[0]
            except Uncertain:
                await asyncio.sleep(0.05)

    async def _stored(self, operation: str) -> None:
        while True:
            with contextlib.suppress(*AWAY):
                if await self._stage.pool.fetchval(IS_STORED, operation, timeout=5):
                    return
            await asyncio.sleep(0.05)


def say(fault: Fault, words: str) -> None:
    """Tells what happens."""
    moment = time.strftime("%H:%M:%S")
    print(f"  {moment} {fault.number:>3} {fault.kind}: {fault.target}: {words}", flush=True)


def shown(seconds: float | None) -> str:
    """A time, or that it was too long."""
    return f"more than {RECOVERS_WITHIN:.0f} s" if seconds is None else f"{seconds:.2f} s"
