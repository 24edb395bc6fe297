"""A real Prometheus on loopback, and the expressions of the alerts and of the dashboard."""

import contextlib
import json
import re
import socket
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import yaml

from tests.support.ports import free_port
from tests.support.servers import HOST, Server, require_program

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
TESTS: Final = ROOT / "deploy" / "prometheus" / "tests.yml"
CONFIG: Final = ROOT / "deploy" / "prometheus" / "prometheus.yml"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "mediabus.json"
SELECTOR: Final = re.compile(r"\b((?:mediabus|process)_\w+|up)\b(?:\{[^}]*\})?")
"""A metric in an expression, with its matchers."""


class Alert(NamedTuple):
    """A rule of rules.yml."""

    name: str
    expr: str
    held: str
    severity: str
    annotations: dict[str, str]


def alerts() -> list[Alert]:
    """Return the alerts of rules.yml."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [
        Alert(
            rule["alert"],
            rule["expr"],
            rule["for"],
            rule["labels"]["severity"],
            rule["annotations"],
        )
        for group in groups
        for rule in group["rules"]
    ]


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard, without the rows."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[str]:
    """Return each expression of the dashboard once."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    return list(dict.fromkeys(found))


class Prometheus(Server):
    """Prometheus that scrapes one port of this machine every two seconds, with the alerts.

    A scrape may take as long as the interval, and this machine may be busy.
    """

    def __init__(self, directory: Path, target: int) -> None:
        directory.mkdir()
        super().__init__(directory, free_port())
        config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"{HOST}:{target}"]}]
        self._config = directory / "prometheus.yml"
        self._config.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.url = f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        return [
            require_program("prometheus"),
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--log.level=warn",
        ]

    def is_ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((HOST, self.port), 1.0) as connection,
        ):
            connection.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
            return b"200 OK" in connection.recv(64)
        return False

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression now."""
        answer = await self._get("query", query=expression.replace("$__rate_interval", "20s"))
        return list(answer["result"])

    async def alerting(self) -> set[str]:
        """Return the names of the alerts that are pending or fire."""
        return {alert["labels"]["alertname"] for alert in (await self._get("alerts"))["alerts"]}

    async def _get(self, what: str, **parameters: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{what}"
        async with aiohttp.ClientSession() as session, session.get(url, params=parameters) as reply:
            answer = await reply.json()
        assert answer["status"] == "success", (parameters, answer)
        data: dict[str, Any] = answer["data"]
        return data
