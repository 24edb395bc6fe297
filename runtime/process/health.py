"""Serve ``/livez``, ``/readyz`` and ``/metrics``."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mediabus.runtime.metrics import READY
from mediabus.runtime.process.http_routes import Routes
from mediabus.runtime.process.http_server import LimitedServer
from mediabus.runtime.settings import HttpSettings, SettingsError

log: Final = logging.getLogger("mediabus.health")

Check = Callable[[], Awaitable[str | None]]
"""Returns what is wrong, or None."""


@contextlib.asynccontextmanager
async def serving(
    settings: HttpSettings,
    *,
    default_port: int,
    checks: Mapping[str, Check],
    routes: Routes | None = None,
) -> AsyncIterator[int]:
    """Serve the health endpoints, and the routes of parts, while open. Yield the port.

    Raises SettingsError if the port is taken.
    """
    readiness = _Readiness(checks)
    pages = {"/livez": _live, "/readyz": readiness.page, "/metrics": readiness.metrics}
    runner = web.ServerRunner(LimitedServer(pages, routes or Routes()), shutdown_timeout=1)
    await runner.setup()
    try:
        wanted = default_port if settings.port is None else settings.port
        site = web.TCPSite(runner, settings.host, wanted)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                f"cannot serve /readyz and /metrics: port {wanted} on {settings.host} is taken or "
                "forbidden. Set MEDIABUS_HTTP_PORT to another port, or to 0 for any free one"
            ) from error
        port: int = runner.addresses[0][1]
        log.info("serving /livez /readyz /metrics", extra={"host": settings.host, "port": port})
        yield port
    finally:
        await runner.cleanup()


_checks: Final[dict[str, Check]] = {}
"""Additional checks of the parts that run in this process."""


@contextlib.contextmanager
def checking(name: str, check: Check) -> Iterator[None]:
    """Add a check to ``/readyz`` while the context is open."""
    _checks[name] = check
    try:
        yield
    finally:
        _checks.pop(name, None)


async def _live(_: web.BaseRequest) -> web.Response:
    return web.Response(text="ok\n")


class _Readiness:
    """Runs the checks of ``/readyz``, whose results ``/metrics`` has too.

    Concurrent requests share one run, so that they cannot exhaust the connection pool.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._own = checks
        self._run: asyncio.Task[dict[str, str | None]] | None = None

    async def page(self, _: web.BaseRequest) -> web.Response:
        """Answer ``/readyz``."""
        problems = {name: found for name, found in (await self._results()).items() if found}
        if problems:
            lines = [f"{name}: {problem}\n" for name, problem in problems.items()]
            return web.Response(status=503, text="".join(lines))
        return web.Response(text="ok\n")

    async def metrics(self, _: web.BaseRequest) -> web.Response:
        """Answer ``/metrics``, with the result of each check as it is now."""
        results = await self._results()
        READY.replace({(name,): float(problem is None) for name, problem in results.items()})
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _results(self) -> dict[str, str | None]:
        if self._run is None or self._run.done():
            self._run = asyncio.create_task(self._run_checks(), name="readiness")
        return await asyncio.shield(self._run)

    async def _run_checks(self) -> dict[str, str | None]:
        """Run all checks at once, each of which has its own timeout."""
        checks = {**self._own, **_checks}
        found = await asyncio.gather(*(_result(*one) for one in checks.items()))
        return dict(zip(checks, found, strict=True))


async def _result(name: str, check: Check) -> str | None:
    """Run a check. One that raises has failed, and must not hide the metrics."""
    try:
        return await check()
    except Exception as error:
        log.exception("check failed", extra={"check": name})
        return f"the check failed: {error!r}"
