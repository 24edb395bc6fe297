"""Limit how fast passwords can be tried."""

import asyncio
import ipaddress
import time
from typing import Final, NamedTuple

from mediabus.web.users import Users

FREE_ATTEMPTS: Final = 5
"""Wrong passwords from one address without a pause."""
LONGEST_PAUSE: Final = 900.0
"""Seconds. The pause doubles with each further attempt, from one second."""
REMEMBERED: Final = 10_000
"""Addresses."""
WAITING: Final = 8
"""Attempts that may wait for their turn. One is checked at a time, from all addresses."""


class TooManyAttempts(Exception):
    """Try again after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"try again in {seconds:.0f} s")
        self.seconds = seconds


class _Failures(NamedTuple):
    times: int
    paused_until: float


class Attempts:
    """Checks passwords one at a time. An address that keeps failing must pause."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._failures: dict[str, _Failures] = {}
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def check(self, name: str, password: str, address: str) -> bool:
        """Return whether a password is right. Raises TooManyAttempts."""
        key = _network_of(address)
        pause = self._failures.get(key, _Failures(0, 0)).paused_until - time.monotonic()
        if pause > 0:
            raise TooManyAttempts(pause)
        if self._waiting >= WAITING:
            raise TooManyAttempts(1)
        self._waiting += 1
        try:
            async with self._turn:
                is_right = await asyncio.to_thread(self._users.check, name, password)
        finally:
            self._waiting -= 1
        if is_right:
            self._failures.pop(key, None)
        else:
            self._note(key)
        return is_right

    def _note(self, key: str) -> None:
        times = self._failures.pop(key, _Failures(0, 0)).times + 1
        beyond = min(times - FREE_ATTEMPTS, 20)
        pause = min(2.0**beyond, LONGEST_PAUSE) if beyond >= 0 else 0
        self._failures[key] = _Failures(times, time.monotonic() + pause)
        if len(self._failures) > REMEMBERED:
            del self._failures[next(iter(self._failures))]


def _network_of(address: str) -> str:
    """Return the address, or the /64 of an IPv6 address: one host has all of that."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
