"""Measure the cost of an event for its operation, from the request to the reply over NATS."""

import sys
from functools import partial

from bench import aims
from bench.load import create, in_flight
from bench.operation_server import WITH_EVENT, WITHOUT_EVENT
from bench.report import Section
from bench.servers import Stack, process, stack, until

CASES = {WITHOUT_EVENT: "without any event", WITH_EVENT: "with its event"}


async def measure(operations: int, runs: int) -> Section:
    """Measure ``operations`` of each case, with 8 and with 64 in flight, in turns."""
    section = Section(aims.REPLY)
    async with stack() as it:
        command = (sys.executable, "-m", "bench.operation_server")
        async with process(*command, environment=it.environment):
            await until(lambda: _serves(it), within=30)
            for run in range(runs + 1):  # the first warms up
                for many in (8, 64):
                    for subject, case in CASES.items():
                        operation = partial(create, it.bus, subject, "A show")
                        rate, p50 = await in_flight(operation, operations, many)
                        await it.pool.execute("TRUNCATE outbox, media_items CASCADE")
                        if run:
                            section.add(f"{case}, {many} in flight", "operations/s", rate)
                            section.add(f"{case}, {many} in flight, p50", "ms", p50)
    section.note(
        f"{operations:,} times media.create, {runs} runs in turns. Without its event it is the "
        "same request, statement and reply, less the event's encoding and record_events(…)."
    )
    return section


async def _serves(it: Stack) -> bool:
    try:
        await create(it.bus, WITH_EVENT, "The first")
    except Exception:  # noqa: BLE001 - any error means that the server is not ready
        return False
    return True
