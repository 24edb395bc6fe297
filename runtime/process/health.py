"""``/livez``, ``/readyz`` and ``/metrics``, for whoever watches a process."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.runtime.settings import HttpSettings, SettingsError

log: Final = logging.getLogger("mediabus.health")

Check = Callable[[], Awaitable[str | None]]
"""Answers what is wrong, or None."""


@contextlib.asynccontextmanager
async def serving(
    settings: HttpSettings, *, default_port: int, checks: Mapping[str, Check]
) -> AsyncIterator[int]:
    """Serves while the process runs and yields the port. Raises SettingsError where it is taken."""
    app = web.Application()
    app.router.add_get("/livez", _live)
    app.router.add_get("/readyz", _ready_by(checks))
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        wanted = default_port if settings.port is None else settings.port
        site = web.TCPSite(runner, settings.host, wanted)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                f"port {wanted} on {settings.host} for /readyz and /metrics is taken or forbidden: "
                "set MEDIABUS_HTTP_PORT to another, or to 0 for any"
            ) from error
        port: int = runner.addresses[0][1]
        log.info("serving /livez /readyz /metrics", extra={"host": settings.host, "port": port})
        yield port
    finally:
        await runner.cleanup()


async def _live(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _ready_by(checks: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def ready(_: web.Request) -> web.Response:
        problems = {name: wrong for name, check in checks.items() if (wrong := await check())}
        if problems:
            lines = [f"{name}: {wrong}\n" for name, wrong in problems.items()]
            return web.Response(status=503, text="".join(lines))
        return web.Response(text="ok\n")

    return ready


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
