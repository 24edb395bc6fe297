"""The page Health: the checks of mediabus doctor, and the rate and lag of the last hour."""

import asyncio
import datetime
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.api.operations import History
from mediabus.doctor.finding import Finding
from mediabus.doctor.nats_checks import examine_nats
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.operations.requests import Timeline
from mediabus.schemas.wording import duration_text
from mediabus.web.answers import reply_or_none
from mediabus.web.context import Values, Web
from mediabus.web.page import Page
from mediabus.web.views.graph import graph

EVERY: Final = 15.0
"""Seconds between two runs of the checks. A run takes one, which no visit should wait for."""

AFTER_PROBLEM: Final = 4.0
"""Seconds after a run that found a problem, so that its end is shown soon."""


NATS_AWAY: Final = Finding(
    name="NATS",
    ok=False,
    found="the connection is lost",
    advice="see the log of nats-server; this page continues by itself",
)


class Health:
    """Shows the findings of the last run of the checks, and runs them in the background."""

    def __init__(self, bus: Bus, clients: Sequence[str]) -> None:
        self._bus = bus
        self._clients = clients
        self._findings: list[Finding] = []
        self._checked: datetime.datetime | None = None

    def pages(self) -> tuple[Page, ...]:
        """Return the page."""
        return (Page("health", self.show),)

    async def run(self) -> None:
        """Run the checks again and again, until cancelled."""
        while True:
            self._findings = await self._examined()
            self._checked = datetime.datetime.now(datetime.UTC)
            is_well = all(finding.ok for finding in self._findings)
            await asyncio.sleep(EVERY if is_well else AFTER_PROBLEM)

    async def _examined(self) -> list[Finding]:
        try:
            return [finding async for finding in examine_nats(self._bus, self._clients)]
        except (NatsError, APIError, TimeoutError) as error:
            return [msgspec.structs.replace(NATS_AWAY, found=error_text(error))]

    async def show(self, context: Web, request: web.BaseRequest) -> web.StreamResponse:
        """Show the findings and the graphs."""

        async def read() -> Values:
            return await self.values(), 200

        return await context.stream(request, "health.html", read(), page="health")

    async def values(self) -> dict[str, Any]:
        """Return what the page shows."""
        findings = self._findings if self._bus.is_connected else [NATS_AWAY]
        return {
            "findings": findings,
            "problems": sum(not finding.ok for finding in findings),
            "checked": self._checked,
            **await _graphs(self._bus),
        }


async def _graphs(bus: Bus) -> dict[str, Any]:
    timeline = await reply_or_none(History(bus, None).timeline())
    return graphs(timeline) if timeline else {"rate": None, "no_history": NO_HISTORY}


NO_HISTORY: Final = (
    "There are no graphs: the history does not answer. Start `mediabus persist` or `mediabus up`."
)


def graphs(timeline: Timeline) -> dict[str, Any]:
    """Return the graphs of a timeline."""
    steps = len(timeline.counts)

    def label(number: int) -> str:
        ago = (steps - 1 - number) * timeline.step
        return f"{duration_text(ago)} ago" if ago else "last minute"

    def whole(value: float) -> str:
        return f"{value:.0f}"

    return {
        "rate": graph(timeline.counts, what="Events a minute", form=whole, label=label),
        "errors": graph(timeline.errors, what="Errors a minute", form=whole, label=label),
        "lag": graph(timeline.lags, what="Lag until stored", form=duration_text, label=label),
    }
