"""Run deluged on loopback only, with any ``core.conf``.

A program of its own, for the Python of ``deluged``, which is where Deluge and libtorrent are.
Deluge makes its session with everything on (DHT, UPnP, NAT-PMP, local peers) and applies its
settings only afterwards: too late to keep the first packets in. Here a session is born quiet and
stays so.
"""

import importlib
import sys
from typing import Any

lt: Any = importlib.import_module("deluge._libtorrent").lt

QUIET = {
    "allow_multiple_connections_per_ip": True,
    "dht_bootstrap_nodes": "",
    "enable_dht": False,
    "enable_incoming_utp": False,
    "enable_lsd": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_upnp": False,
    "listen_interfaces": "127.0.0.1:0",
    "min_reconnect_time": 1,
    "outgoing_interfaces": "127.0.0.1",
}


Session: Any = lt.session


class QuietSession(Session):  # type: ignore[misc]  # libtorrent comes without types
    """A libtorrent session that nothing can make speak beyond loopback."""

    def __init__(self, settings: dict[str, object], flags: int = 0) -> None:
        super().__init__(settings | QUIET, flags)

    def apply_settings(self, settings: dict[str, object]) -> None:
        super().apply_settings(settings | QUIET)


lt.session = QuietSession
sys.exit(importlib.import_module("deluge.core.daemon_entry").start_daemon())
