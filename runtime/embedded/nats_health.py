"""Detect a NATS server that answers but stores nothing any more, as after a full disk."""

import logging
import shutil
from pathlib import Path
from typing import Final

import msgspec
import nats
from nats.errors import Error as NatsError

log: Final = logging.getLogger("mediabus.embedded")

WATCHER: Final = "mediabus_watcher"
"""The user of the system account that polls the server's health."""

HEALTH: Final = "$SYS.REQ.SERVER.PING.HEALTHZ"

MIN_FREE_BYTES: Final = 16_000_000
"""Free disk space needed for a restart. On a full disk it would not help."""

FAILED_CHECKS: Final = 2
"""Failed checks in a row after which the server is restarted. Doubles after each restart that did
not help, up to ``MAX_FAILED_CHECKS``."""
MAX_FAILED_CHECKS: Final = 64


class _Data(msgspec.Struct):
    status: str = "ok"
    error: str = ""


class _Answer(msgspec.Struct):
    data: _Data = msgspec.field(default_factory=_Data)


class Health:
    """Polls the health of a server."""

    def __init__(self, url: str, store: Path) -> None:
        self._url = url
        self._store = store
        self._unhealthy = 0
        self._limit = FAILED_CHECKS
        self._reason: str | None = None

    async def is_stuck(self) -> bool:
        """Return whether the server has been unhealthy for a while and a restart may help.

        After a failed write, for instance on a full disk, a stream refuses writes until the server
        is restarted, even if there is space again.
        """
        reason = await self._ask()
        if reason is None:
            self._unhealthy = 0
            self._limit = FAILED_CHECKS
            self._reason = None
            return False
        if reason != self._reason:
            log.error("nats-server is unhealthy", extra={"reason": reason})
            self._reason = reason
        if shutil.disk_usage(self._store).free < MIN_FREE_BYTES:
            return False
        self._unhealthy += 1
        if self._unhealthy < self._limit:
            return False
        self._unhealthy = 0
        self._limit = min(2 * self._limit, MAX_FAILED_CHECKS)
        return True

    async def _ask(self) -> str | None:
        """Return why the server is unhealthy. None if it is healthy or does not answer."""
        try:
            nc = await nats.connect(
                self._url, allow_reconnect=False, connect_timeout=2, error_cb=_ignore
            )
            try:
                reply = await nc.request(HEALTH, timeout=3)
            finally:
                await nc.close()
            answer = msgspec.json.decode(reply.data, type=_Answer)
        except (NatsError, OSError, TimeoutError, msgspec.DecodeError):
            return None
        return None if answer.data.status == "ok" else answer.data.error or answer.data.status


async def _ignore(_: Exception) -> None:
    """Ignore errors here: connect raises them, too."""
