"""A real Prometheus scrapes a real mediabus: every expression gives series, and alerts notice.

One `mediabus up` has a download client, an application, a target and an MQTT broker. Something
happens with each, and then each fails.
"""

import base64
import contextlib
import functools
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.service.apps.configured import app_settings
from tests.support import torrents
from tests.support.apps import Sonarr
from tests.support.apps.reading import with_apps
from tests.support.aria2_daemon import Aria2
from tests.support.commands import PROGRAM, environment
from tests.support.eventually import eventually
from tests.support.http_in import send
from tests.support.library import with_clients
from tests.support.metrics_docs import documented, scrape
from tests.support.mosquitto import Mosquitto, broker
from tests.support.ports import free_port
from tests.support.processes import clients_toml
from tests.support.prometheus import (
    SELECTOR,
    Prometheus,
    alerts,
    dashboard_expressions,
)
from tests.support.receiver import Receiver, receiving, status
from tests.support.servers import HOST, NatsServer

__all__ = ["broker"]  # the fixture

TOKEN: Final = "a-token-of-sixteen-or-more"
SETTINGS: Final = """
[monitor]
unreachable_after = 0.5
[ingest]
token = "{token}"
[mqtt]
url = "{broker}"
[notifier]
retry_delays = ["0.2s"]
allowed_hosts = ["{host}"]
[web]
auth = "none"
[[notify]]
name = "hook"
webhook = "{hook}"
events = ["media_item.added"]
{tables}
"""
ONLY_WITH_KEYS: Final = "mediabus_events_ingested_total"
"""Without accounts of `mediabus secure`, no event is ingested. tests/integration/test_metrics.py
has one that is."""

FAILING: Final = {
    "MediabusAppUnreachable",
    "MediabusClientUnreachable",
    "MediabusDeadLetters",
    "MediabusMqttDisconnected",
    "MediabusTargetFailing",
}


class Up:
    """A running `mediabus up` with all its neighbors."""

    def __init__(self, port: int, nats: Any, sonarr: Sonarr) -> None:
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self._nats = nats
        self._sonarr = sonarr

    async def ask(self, subject: str, request: dict[str, Any]) -> Any:
        reply = await self._nats.request(subject, msgspec.json.encode(request), timeout=10)
        return msgspec.json.decode(reply.data)

    async def everything_happens(self, shared: torrents.Shared) -> None:
        """An operation, a download, an event and a webhook over HTTP, and a grab."""
        await self.ask("media.create", {"type": "movie", "title": "Dune", "year": 2021})
        torrent = base64.b64encode(shared.content).decode()
        await self.ask("downloads.initiate", {"title": "Dune", "torrent": torrent})
        event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "my.own"}
        reply = await send(f"{self.url}/events", event, Authorization=f"Bearer {TOKEN}")
        assert reply.status == 200, reply.body
        series = self._sonarr.put_series("Severance", episodes=1)
        await self._sonarr.grab(series, [1], "A" * 40)
        assert [code for _, code in self._sonarr.connections.attempts] == [200]

    async def is_ready(self) -> bool:
        with contextlib.suppress(OSError, AssertionError):
            shown = await scrape(self.port)
            ready = [one.value for one in shown.samples if one.name == "mediabus_ready"]
            return len(ready) >= 4 and all(ready)
        return False


@contextlib.contextmanager
def process(config: Path, settings: Settings, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `mediabus up` on the servers of the test, and kill it at the end."""
    variables = {
        **environment(),
        "MEDIABUS_CONFIG": str(config),
        "MEDIABUS_NATS_URL": settings.nats.url or "",
        "MEDIABUS_DATABASE_URL": settings.database.url or "",
        "MEDIABUS_HTTP_PORT": str(port),
        "MEDIABUS_DATA_DIR": settings.data_dir,
    }
    with (config.parent / "up.log").open("wb") as log:
        started = subprocess.Popen([*PROGRAM, "up"], env=variables, stdout=log, stderr=log)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    directory: Path,
    neighbors: tuple[Aria2, Sonarr, Receiver, Mosquitto],
    bus: Bus,
) -> AsyncIterator[tuple[Up, "subprocess.Popen[bytes]"]]:
    aria2, sonarr, receiver, mqtt = neighbors
    here = with_apps(with_clients(settings, aria2.settings()), sonarr)
    config = directory / "mediabus.toml"
    tables = clients_toml(here)
    text = SETTINGS.format(
        token=TOKEN, broker=mqtt.url, host=HOST, hook=receiver.url, tables=tables
    )
    config.write_text(text, encoding="utf-8")
    config.chmod(0o600)
    port = free_port()
    (app,) = app_settings(here, {})
    sonarr.connections.add(f"http://{HOST}:{port}/hooks/{app.name}/{app.token}")
    with process(config, settings, port) as started:
        up = Up(port, bus.nc, sonarr)
        await eventually(up.is_ready, within=60)
        yield up, started


@pytest.fixture
def outside(broker: Mosquitto) -> Iterator[tuple[Aria2, Mosquitto]]:
    """A download client and an MQTT broker."""
    with Aria2.started() as daemon:
        yield daemon, broker


async def check_documentation(up: Up) -> None:
    """What the process exposes is what docs/metrics.md lists."""
    shown = await scrape(up.port)
    rows = documented()
    assert shown.types == {name: row.type for name, row in rows.items()}
    silent = [name for name in rows if shown.labels_of(name) is None]
    assert silent == [ONLY_WITH_KEYS]
    labels = {name: row.labels for name, row in rows.items() if name not in silent}
    assert {name: shown.labels_of(name) for name in labels} == labels


async def empty(prometheus: Prometheus, expressions: list[str]) -> list[str]:
    """Return the expressions without a series."""
    return [one for one in expressions if not await prometheus.ask(one)]


async def all_filled(prometheus: Prometheus, expressions: list[str]) -> bool:
    return not await empty(prometheus, expressions)


async def is_alerting(prometheus: Prometheus, expected: set[str]) -> bool:
    return expected <= await prometheus.alerting()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_prometheus_sees_every_figure_and_every_failure(
    settings: Settings, nats: NatsServer, bus: Bus, outside: tuple[Aria2, Mosquitto], tmp_path: Path
) -> None:
    aria2, mqtt = outside
    async with (
        torrents.swarm(tmp_path) as swarm,
        Sonarr.running() as sonarr,
        receiving() as receiver,
        running(settings, tmp_path, (aria2, sonarr, receiver, mqtt), bus) as (up, process),
        scraping(tmp_path / "prometheus", up.port) as prometheus,
    ):
        await up.everything_happens(swarm.share(size=100_000))
        await every_expression_gives_series(prometheus)
        await check_documentation(up)
        await eventually(functools.partial(is_silent, prometheus), within=60)
        aria2.kill()
        mqtt.stop()
        await sonarr.stop()
        receiver.always = status(500)
        await up.ask("media.create", {"type": "movie", "title": "Alien", "year": 1979})
        await bus.nc.publish("events.my.own.thing.1", b"not an event")
        await eventually(functools.partial(is_alerting, prometheus, FAILING), within=60)
        await forgets_what_leaves_the_settings(tmp_path / "mediabus.toml", up.port)
        nats.kill()
        away = {"MediabusNotReady", "MediabusNotStoring"}
        await eventually(functools.partial(is_alerting, prometheus, away), within=60)
        process.kill()
        gone = {"MediabusDown", "MediabusNotRelaying"}
        await eventually(functools.partial(is_alerting, prometheus, gone), within=60)


@contextlib.asynccontextmanager
async def scraping(directory: Path, port: int) -> AsyncIterator[Prometheus]:
    server = Prometheus(directory, port)
    server.start(within=60)
    try:
        yield server
    finally:
        server.kill()


async def forgets_what_leaves_the_settings(config: Path, port: int) -> None:
    """Without clients, applications and targets, no series has their names."""
    labels = {"client", "app", "target"}

    async def named() -> set[str]:
        return {one.name for one in (await scrape(port)).samples if labels & one.labels.keys()}

    async def is_gone() -> bool:
        return not await named()

    assert len(await named()) > 10
    without_tables(config)
    await eventually(is_gone, within=60)


def without_tables(config: Path) -> None:
    """Remove the target, the client and the application from a settings file."""
    text = config.read_text(encoding="utf-8")
    config.write_text(text.partition("[[notify]]")[0], encoding="utf-8")


async def every_expression_gives_series(prometheus: Prometheus) -> None:
    """Ask the dashboard's expressions, and each metric of the alerts without its matchers."""
    shown = [one for one in dashboard_expressions() if ONLY_WITH_KEYS not in one]
    assert len(shown) == len(dashboard_expressions()) - 1
    used = {found[1] for alert in alerts() for found in SELECTOR.finditer(alert.expr)}
    assert len(shown) > 40
    assert len(used) > 15
    wanted = [*shown, *sorted(used)]
    try:
        await eventually(functools.partial(all_filled, prometheus, wanted), within=60, every=1)
    except AssertionError:
        raise AssertionError(await empty(prometheus, wanted)) from None
    for alert in alerts():
        await prometheus.ask(alert.expr)


async def is_silent(prometheus: Prometheus) -> bool:
    return not await prometheus.alerting()
