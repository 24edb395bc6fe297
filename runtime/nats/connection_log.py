"""Log what happens to a connection to NATS."""

import logging
from typing import Final

from mediabus.runtime.error_text import error_text

log: Final = logging.getLogger("mediabus.bus")


class ConnectionLog:
    """Logs the state of a connection until it is closed. Logs each reason to wait once."""

    def __init__(self) -> None:
        self.is_closing = False
        self.reasons: list[str] = []
        """Why the connection could not be made since it was lost."""
        self._is_waiting = True

    async def error(self, error: Exception) -> None:
        reason = error_text(error)
        if not self._is_waiting:
            log.warning("NATS error", extra={"error": reason})
        elif reason not in self.reasons:
            self.reasons.append(reason)
            log.info("waiting for NATS", extra={"reason": reason})

    def connected(self) -> None:
        self._is_waiting = False

    async def disconnected(self) -> None:
        self.reasons = []
        self._is_waiting = True
        if not self.is_closing:
            log.warning("NATS connection lost, reconnecting")

    async def lame_duck(self) -> None:
        log.info("NATS server is in lame duck mode and will close the connection")

    async def reconnected(self) -> None:
        self.connected()
        log.info("NATS reconnected")
