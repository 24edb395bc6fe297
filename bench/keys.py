"""Measure the cost of a separate key for a publisher, whose events pass through the ingest step.

    python -m bench.keys [--events 1000]

Each event is published after the acknowledgement of the one before, in turns with the service's
key, directly to the stream, and with a program's key. Publishers and ingest step share one process.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Final

import uvloop
from rich.console import Console

from bench.report import Section, show
from bench.servers import Failed
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor
from mediabus.schemas.subjects import subject_of
from mediabus.service.ingest.serve import serve_keys
from tests.support.secured import SecuredNats, secured_nats

RUNS: Final = 3
MOST_MS: Final = 2.0
"""The most that the ingest step may add to the median acknowledgement."""


async def measure(events: int, runs: int) -> Section:
    """Return the milliseconds of an acknowledgement, direct and through the ingest step."""
    section = Section("publishing with your own key")
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-bench-") as folder,
        secured_nats(Path(folder), ("--program", "bench")) as server,
    ):
        async with _connected(server) as (direct, program):
            for _ in range(runs):
                straight = await _acknowledged(direct, events)
                ingested = await _acknowledged(program, events)
                section.add("straight into the stream, p50", "ms", straight)
                section.add("through the ingest step, p50", "ms", ingested)
                section.add("added by the ingest step", "ms", ingested - straight)
    added = section.figures["added by the ingest step"].median
    if added > MOST_MS:
        raise Failed(f"the ingest step adds {added:.2f} ms; {MOST_MS:g} are allowed")
    return section


@contextlib.asynccontextmanager
async def _connected(server: SecuredNats) -> AsyncIterator[tuple[Bus, Bus]]:
    async with (
        connect(server.settings("service"), name="service", wait=10) as service,
        connect(server.settings("service"), name="direct", wait=10) as direct,
        connect(server.settings("program-bench"), name="program", wait=10) as program,
    ):
        await ensure_streams(service, NatsSettings())
        async with serve_keys(service):
            yield direct, program


async def _acknowledged(bus: Bus, events: int) -> float:
    """Return the median milliseconds of an acknowledgement."""
    took = []
    for number in range(events):
        envelope = Envelope.of(JobExecuted(job_name=f"{number}"), actor=Actor("job", "bench"))
        body = codec.encode(envelope).replace(b'"mediabus/system"', b'"bench"')
        began = time.perf_counter()
        await bus.store(subject_of(envelope), body, str(envelope.id))
        took.append(time.perf_counter() - began)
    return median(took) * 1000


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000)
    events = parser.parse_args().events
    show(Console(), uvloop.run(measure(events, RUNS)))


if __name__ == "__main__":
    main()
