"""Measure what tracing costs an operation: off, compared with the code without it, and on.

    python -m bench.tracing [--operations 2000]

`media.create` over NATS, with its event, from a client in the process of the service. The CPU is
that of this process, the client included, and the sending of the spans. The receiver of the spans
is another process. The cases take turns.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final
from unittest import mock

import aiohttp
import uvloop
from aiohttp import web
from rich.console import Console

from bench.load import create, in_flight
from bench.report import Section, show
from bench.servers import REPOSITORY, Failed, Stack, stack
from mediabus.runtime import tracing
from mediabus.schemas import trace
from mediabus.schemas.identity import uuid7
from mediabus.service.operations.api import serve_operations
from mediabus.service.operations.open import open_operations

RUNS: Final = 5
IN_FLIGHT: Final = 8
CALLS: Final = 100_000
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
CASES: Final = ("without tracing in the code", "off", "on", "on, 1 % sampled")
EXPORTED: Final = "requests with spans"
HEADERS: Final = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


async def measure(operations: int, runs: int) -> Section:
    """Measure the calls alone, then an operation in each case."""
    section = Section("tracing")
    for _ in range(runs):
        _measure_calls(section)
    async with (
        _receiver() as url,
        stack() as servers,
        open_operations(servers.pool, servers.bus) as opened,
        serve_operations(servers.bus, opened),
    ):
        for run in range(runs + 1):  # the first warms up
            for case in CASES if run % 2 else reversed(CASES):
                async with _case(case, url):
                    figures = await _operate(servers, operations)
                for name, unit, value in figures if run else ():
                    section.add(f"{case}, {name}", unit, value)
        section.add(EXPORTED, "requests", await _received(url))
    section.note(f"{operations} operations, {IN_FLIGHT} in flight, {runs} runs in turns.")
    return section


def _measure_calls(section: Section) -> None:
    """Measure the context managers that an operation and a batch enter, with tracing off."""

    def carrying() -> contextlib.AbstractContextManager[object]:
        return trace.carrying(HEADERS)

    def operation() -> contextlib.AbstractContextManager[object]:
        return tracing.operation("media.create", HEADERS)

    def query() -> contextlib.AbstractContextManager[object]:
        return tracing.query()

    before, after = _nanoseconds(carrying), _nanoseconds(operation)
    section.add("an operation's context without tracing in the code", "ns", before)
    section.add("the same, tracing off", "ns", after)
    section.add("any other span, tracing off", "ns", _nanoseconds(query))


def _nanoseconds(opened: Callable[[], contextlib.AbstractContextManager[object]]) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        with opened():
            pass
    return (time.process_time() - began) / CALLS * 1e9


@contextlib.asynccontextmanager
async def _case(case: str, url: str) -> AsyncIterator[None]:
    variables = {ENDPOINT: url} if case.startswith("on") else {}
    if "1 %" in case:
        variables |= {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    with _environment(variables), _without_tracing(active=case == CASES[0]):
        async with tracing.tracing("bench"):
            if tracing.is_on() is not case.startswith("on"):
                raise Failed("tracing does not start: install mediabus[otel]")
            yield


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    names = (ENDPOINT, "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(kept)


@contextlib.contextmanager
def _without_tracing(*, active: bool) -> Iterator[None]:
    """Do in an operation what it did before there was tracing."""
    if active:
        with mock.patch.object(tracing, "operation", lambda _, headers: trace.carrying(headers)):
            yield
    else:
        yield


async def _operate(servers: Stack, operations: int) -> list[tuple[str, str, float]]:
    began = time.process_time()
    _, p50 = await in_flight(
        lambda: create(servers.bus, "media.create", uuid7().hex), operations, IN_FLIGHT
    )
    cpu = (time.process_time() - began) / operations
    await servers.pool.execute("TRUNCATE outbox, media_items CASCADE")
    return [("p50", "ms", p50), ("CPU of an operation", "µs", cpu * 1e6)]


@contextlib.asynccontextmanager
async def _receiver() -> AsyncIterator[str]:
    """Run a receiver of spans in a process of its own."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.tracing", "--receive"),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert running.stdout
        yield (await running.stdout.readline()).decode().strip()
    finally:
        running.kill()
        await running.wait()


async def _received(url: str) -> int:
    """Return the number of requests that the receiver had. Raises Failed if it had none."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        requests = int(await response.text())
    if not requests:
        raise Failed("no spans were sent")
    return requests


async def _receive() -> None:
    """Accept spans until killed, and answer GET with the number of requests. Prints the URL."""
    requests = 0

    async def accept(request: web.BaseRequest) -> web.Response:
        nonlocal requests
        if request.method == "GET":
            return web.Response(text=f"{requests}")
        await request.read()
        requests += 1
        return web.Response()

    runner = web.ServerRunner(web.Server(accept, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=2_000)
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receive:
        uvloop.run(_receive())
    else:
        show(Console(), uvloop.run(measure(arguments.operations, RUNS)))


if __name__ == "__main__":
    main()
