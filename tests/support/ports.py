"""Free ports on loopback."""

import random
import socket

BELOW_EPHEMERAL = range(20_000, 32_000)
"""Where the kernel never places an outgoing connection by itself (its default range starts at
32768), so that a port found free here stays free until its daemon binds it."""


def free_port() -> int:
    """A TCP port that is free on 127.0.0.1. Random, for test processes side by side."""
    for port in random.sample(BELOW_EPHEMERAL, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(
        f"no free port on 127.0.0.1 between {BELOW_EPHEMERAL[0]} and {BELOW_EPHEMERAL[-1]}"
    )
