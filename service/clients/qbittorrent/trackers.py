"""Find out why torrents are in error, and what their trackers report."""

import time
from collections.abc import Mapping
from typing import Final

import msgspec

from mediabus.service.clients.http import Http
from mediabus.service.clients.qbittorrent.rpc import Rpc
from mediabus.service.clients.qbittorrent.states import Torrent, stands_still

TRACKERS_EVERY: Final = 10.0
"""Seconds between two rounds of tracker requests."""

ASKED_AT_ONCE: Final = 5
"""Torrents per round, however many are stalled. Each answer has about 600 bytes."""

WORKS: Final = 2
ANNOUNCES: Final = 3
FAILS: Final = {4, 5, 6}
"""Statuses of a tracker. 5 (tracker error) and 6 (unreachable) are 4 before qBittorrent 5.1."""


class LogLine(msgspec.Struct, frozen=True):
    """A line of the reply to log/main."""

    message: str


class Tracker(msgspec.Struct, frozen=True):
    """An entry of torrents/trackers. The entries of DHT, PeX and LSD start with ``** [``."""

    url: str
    status: int | str = 0  # a word before 4.1.5
    msg: str = ""


class Trouble:
    """The messages about torrents in error and about stalled torrents."""

    def __init__(self, http: Http, rpc: Rpc) -> None:
        self._http = http
        self._rpc = rpc
        self._logged: dict[str, str] = {}  # of torrents in error
        self._trackers: dict[str, str] = {}  # of stalled torrents
        self._asked: dict[str, float] = {}  # stalled torrents, and the time of the last request
        self._round = -TRACKERS_EVERY

    def words(self, item: str, torrent: Torrent) -> str:
        """Return the message about a torrent, or an empty string."""
        still = stands_still(torrent.state, torrent.dlspeed)
        return (self._trackers if still else self._logged).get(item, "")

    async def explain(self, torrents: Mapping[str, Torrent]) -> None:
        """Read the log, the only place with the reason, if a torrent is newly in error."""
        failed = {item: torrent for item, torrent in torrents.items() if torrent.state == "error"}
        for item in torrents.keys() - failed.keys():
            self._logged.pop(item, None)
        unexplained = failed.keys() - self._logged.keys()
        if not unexplained:
            return
        params = {"normal": "false", "info": "false"}
        answer = await self._rpc.call("GET", "log/main", params=params)
        lines = [line.message for line in self._http.decode(answer, list[LogLine])]
        for item in unexplained:
            name = failed[item].name
            found = next((line for line in reversed(lines) if name in line), None)
            if found is not None:
                self._logged[item] = found

    async def ask_trackers(self, records: Mapping[str, Mapping[str, object]]) -> list[str]:
        """Request the trackers of some stalled torrents, once per round.

        Starts with those whose last request is the oldest. Returns the items with a new message.
        """
        now = time.monotonic()
        if now - self._round < TRACKERS_EVERY:
            return []
        self._round = now
        self._asked = {
            item: self._asked.get(item, -TRACKERS_EVERY)
            for item, record in records.items()
            if stands_still(record.get("state"), record.get("dlspeed"))
        }
        self._trackers = {it: words for it, words in self._trackers.items() if it in self._asked}
        due = sorted(self._asked, key=self._asked.__getitem__)[:ASKED_AT_ONCE]
        self._asked |= dict.fromkeys(due, now)
        return [item for item in due if await self._has_news(item)]

    async def _has_news(self, item: str) -> bool:
        answer = await self._rpc.call("GET", "torrents/trackers", params={"hash": item})
        if answer.status == 404:  # removed meanwhile
            return False
        before = self._trackers.get(item, "")
        words = trackers_words(self._http.decode(answer, list[Tracker]), before)
        self._trackers[item] = words
        return words != before


def trackers_words(trackers: list[Tracker], before: str) -> str:
    """Return the message of the first failing tracker, unless one works.

    Returns ``before`` while the trackers are contacted again.
    """
    real = [it for it in trackers if not it.url.startswith("** [")]
    statuses = {it.status for it in real}
    if WORKS in statuses:
        return ""
    failing = next((it for it in real if it.status in FAILS), None)
    if failing is not None:
        return f"tracker: {failing.msg or 'does not work'}"
    return before if ANNOUNCES in statuses else ""
