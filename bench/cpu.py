"""Measure the CPU time of an event in all processes that handle it."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import psutil

ITSELF: Final = "itself"
SERVERS: Final = {"nats-server": "nats-server", "postgres": "PostgreSQL"}
KINDS: Final = (ITSELF, *SERVERS.values())


def spent() -> dict[str, float]:
    """Return the CPU seconds of the child processes of this one, by kind.

    The kinds are the two servers, and everything else, which is measured.
    """
    seconds: dict[str, float] = defaultdict(float)
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            kind = SERVERS.get(child.name(), ITSELF)
            for one in (child, *child.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    seconds[kind] += times.user + times.system
    return seconds


def since(before: Mapping[str, float], events: int) -> dict[str, float]:
    """Return the microseconds of CPU per event since ``before``."""
    now = spent()
    return {kind: 1e6 * (now[kind] - before[kind]) / events for kind in KINDS}
