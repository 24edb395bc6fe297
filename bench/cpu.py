"""What an event costs: the time of processors, whoever's it is."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import psutil

ITSELF: Final = "itself"
SERVERS: Final = {"nats-server": "nats-server", "postgres": "PostgreSQL"}
KINDS: Final = (ITSELF, *SERVERS.values())


def spent() -> dict[str, float]:
    """Seconds of CPU that each kind of process below this one has used: the servers', and of what
    else was started, which is what is measured."""
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
    """Microseconds of CPU that each of ``events`` has taken since then."""
    now = spent()
    return {kind: 1e6 * (now[kind] - before[kind]) / events for kind in KINDS}
