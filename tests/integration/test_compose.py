"""compose.yaml is valid and every command in it works, tested without Docker."""

import asyncio
import contextlib
import functools
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import jsonschema
import pytest
import yaml
from nats.js.errors import NotFoundError

from mediabus.runtime.nats.bus import CannotConnect, connect
from mediabus.runtime.settings import NatsSettings
from mediabus.runtime.settings_file import SETTINGS_FILE
from mediabus.wiring.registry import PROCESSES
from tests.support.dockerfile import words_of
from tests.support.eventually import eventually
from tests.support.mosquitto import mosquitto
from tests.support.ports import free_port
from tests.support.servers import PostgresServer, postgres_server, require_program

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
DAEMONS = ("service", "monitor", "persist")
READERS = ("web", "notify", "mqtt")
"""Processes that need NATS only."""


def compose() -> dict[str, Any]:
    """Return compose.yaml as Compose reads it when no variable is set."""
    text = re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "compose.yaml").read_text())
    tree: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))
    return tree


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that deploy/secrets.sh makes, with `mediabus secure` of this checkout."""
    deploy = tmp_path_factory.mktemp("compose") / "deploy"
    deploy.mkdir()
    return make_secrets(deploy)


def make_secrets(deploy: Path) -> Path:
    """Run deploy/secrets.sh with the command of compose.yaml, and return the folder it fills."""
    script = deploy / "secrets.sh"
    script.write_bytes((ROOT / "deploy" / "secrets.sh").read_bytes())
    command = shlex.join([str(PROGRAMS / "mediabus"), *SERVICES["secure"]["command"][1:]])
    command = command.replace("/keys", "secrets").replace("/etc/nats", str(deploy / "secrets"))
    command = command.replace("--store=/data", f"--store={deploy / 'store'}")
    environment = {"PATH": os.defpath, "MEDIABUS_SECURE": command}
    subprocess.run(["sh", str(script)], check=True, env=environment, stdout=subprocess.DEVNULL)
    return deploy / "secrets"


def here(value: str, secrets: Path) -> str:
    """Return the path on this machine of a file in a container."""
    for name, secret in compose()["secrets"].items():
        if value == f"/run/secrets/{name}":
            return str(secrets / Path(secret["file"]).name)
    return value.replace("/etc/mediabus/", f"{ROOT}/deploy/")


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command with only this environment; kill it when the test ends."""
    variables = {"PATH": f"{PROGRAMS}:{os.defpath}"} | environment
    if coverage := os.environ.get("COVERAGE_PROCESS_CONFIG"):
        variables["COVERAGE_PROCESS_CONFIG"] = coverage
    started = subprocess.Popen(command, env=variables, cwd="/", stdin=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def environment_of(name: str, secrets: Path, **other: str) -> dict[str, str]:
    """Return a service's environment with the paths of this machine and the given values."""
    written = {
        key: here(f"{value}", secrets) for key, value in SERVICES[name]["environment"].items()
    }
    assert other.keys() <= written.keys()
    return written | other


@contextlib.contextmanager
def composed_nats(secrets: Path) -> Iterator[str]:
    """Run nats-server with the configuration of the deployment, on free ports."""
    port, health = free_port(), free_port()
    local = secrets / "local.conf"
    written = local.read_text()
    assert '"127.0.0.1:8222"' in written
    local.write_text(written.replace("8222", str(health)))
    command = [str(PROGRAMS / "nats-server"), "--config", str(secrets / "nats.conf")]
    try:
        with process([*command, "--addr=127.0.0.1", f"--port={port}"], {}):
            yield f"tls://127.0.0.1:{port}"
    finally:
        local.write_text(written)


@contextlib.asynccontextmanager
async def composed_postgres(secrets: Path) -> AsyncIterator[str]:
    """Run PostgreSQL with the user, database and roles that its image makes.

    Its data is outside of pytest's folders, which other users cannot enter.
    """
    wanted = SERVICES["postgres"]["environment"]
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-compose-") as folder,
        postgres_server(Path(folder)) as server,
    ):
        await _make_database(server, wanted["POSTGRES_USER"], wanted["POSTGRES_DB"], secrets)
        yield f"{server.port}"


async def _make_database(server: PostgresServer, user: str, database: str, secrets: Path) -> None:
    password = (secrets / "owner.password").read_text()
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'")
        await connection.execute(f"CREATE DATABASE {database} OWNER {user}")
        await connection.execute((secrets / "roles.sql").read_text())
        with (server.data / "pg_hba.conf").open("w") as rules:
            rules.write("host all postgres 127.0.0.1/32 trust\n")
            rules.write("host all all 127.0.0.1/32 scram-sha-256\n")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def is_ready(url: str, text: str = "") -> bool:
    """Return whether an answer is 200, and holds ``text``."""
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200 and text in await answer.text()
    return False


def test_compose_file_matches_the_specification() -> None:
    schema = json.loads((ROOT / "tests" / "support" / "compose-spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(compose())


def test_only_nats_and_the_pages_are_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"nats": ["127.0.0.1:4222:4222"], "web": ["127.0.0.1:8321:8321"]}


def test_services_limit_logs_and_privileges() -> None:
    for name, service in SERVICES.items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert "no-new-privileges:true" in service["security_opt"], name
        once = name == "migrate" or service.get("profiles") == ["tools"]
        assert service["restart"] == ("no" if once else "unless-stopped"), name


def test_every_process_is_a_service_and_optional_ones_have_a_profile() -> None:
    commands = {tuple(service.get("command", ())): service for service in SERVICES.values()}
    for process in PROCESSES:
        service = commands["mediabus", process.name]
        assert service.get("profiles") == ([process.name] if process.absent else None)
        assert service["image"].startswith("mediabus-processes:")
        assert service["build"] == {"context": ".", "target": "processes"}


def test_processes_wait_for_the_schema_and_servers() -> None:
    for name in DAEMONS:
        needs = {one: rule["condition"] for one, rule in SERVICES[name]["depends_on"].items()}
        assert needs == {
            "nats": "service_healthy",
            "postgres": "service_healthy",
            "migrate": "service_completed_successfully",
        }
    for name in READERS:
        assert SERVICES[name]["depends_on"] == {"nats": {"condition": "service_healthy"}}
        assert "database" not in SERVICES[name]["networks"]


def test_mounted_files_exist_and_secrets_are_ignored_by_git(tmp_path: Path) -> None:
    mounts = [one for service in SERVICES.values() for one in service.get("volumes", [])]
    local = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]
    committed = [path for path in local if not path.startswith("./deploy/secrets")]
    assert [path for path in committed if not (ROOT / path).is_file()] == []
    made = make_secrets(tmp_path)
    needed = [path for path in local if path.startswith("./deploy/secrets/")]
    needed += [secret["file"] for secret in compose()["secrets"].values()]
    assert len(needed) > 12
    assert [path for path in needed if not (made / Path(path).name).is_file()] == []
    before = {path.name: path.read_bytes() for path in made.iterdir() if path.suffix != ".conf"}
    make_secrets(tmp_path)  # the second time it keeps what it made
    assert {name: (made / name).read_bytes() for name in before} == before
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_secrets_are_private(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    read_by_mediabus = [path for path in secrets.iterdir() if path.suffix == ".nk"]
    assert len(read_by_mediabus) > 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in read_by_mediabus} == {0o600}


def test_services_get_only_their_own_secrets() -> None:
    given = {name: {*service.get("secrets", [])} for name, service in SERVICES.items()}
    at_clients = {"qbittorrent_password"}
    assert given == {
        "nats": set(),
        "postgres": {"owner_password"},
        "migrate": {"owner_password"},
        "service": {"nats_ca", "service_key", "operations_password"} | at_clients,
        "monitor": {"nats_ca", "monitor_key", "operations_password"} | at_clients,
        "persist": {"nats_ca", "persister_key", "persister_password"},
        "web": {"nats_ca", "web_key", "web_password"},
        "notify": {"nats_ca", "notify_key"},
        "mqtt": {"nats_ca", "mqtt_key", "mqtt_password"},
        "cli": {"nats_ca", "viewer_key"},
        "secure": set(),
    }
    for name, service in SERVICES.items():
        read = {f"{value}" for value in service["environment"].values()}
        files = {path.removeprefix("/run/secrets/") for path in read if "/run/secrets/" in path}
        assert files == given[name], name


def test_services_have_limits_and_the_database_is_internal() -> None:
    for name, service in SERVICES.items():
        assert service["mem_limit"], name
        assert service["pids_limit"] == 256, name
        assert service["cap_drop"] == ["ALL"], name
    assert compose()["networks"]["database"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["database"]


async def test_nats_requires_a_key(secrets: Path) -> None:
    with composed_nats(secrets) as url:
        authority = str(secrets / "ca.pem")
        key = NatsSettings(url=url, nkey_seed_file=str(secrets / "service.nk"), tls_ca=authority)
        async with connect(key, name="test", wait=20) as bus:
            with pytest.raises(NotFoundError):  # there is JetStream, and nothing in it yet
                await bus.js.stream_info("EVENTS")
            assert bus.nc.max_payload == 8 * 1024 * 1024
        with pytest.raises(CannotConnect):
            async with connect(NatsSettings(url=url, tls_ca=authority), name="test", wait=2):
                pass


@contextlib.contextmanager
def composed_broker(secrets: Path, folder: Path) -> Iterator[str]:
    """Run an MQTT broker with the login of the deployment."""
    passwords = folder / "passwords"
    user = SERVICES["mqtt"]["environment"]["MEDIABUS_MQTT_USER"]
    password = (secrets / "mqtt.password").read_text()
    program = require_program("mosquitto_passwd")
    subprocess.run([program, "-b", "-c", str(passwords), user, password], check=True)
    with mosquitto(folder / "mosquitto", f"password_file {passwords}") as broker:
        yield broker.url


SETTINGS = """
[[notify]]
name = "log"
run = ["/bin/true"]
"""


@pytest.mark.timeout(240)
async def test_commands_run_with_their_environment_until_sigterm(
    secrets: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "mediabus.toml"
    settings.write_text(SETTINGS)
    async with contextlib.AsyncExitStack() as stack:
        broker = stack.enter_context(composed_broker(secrets, tmp_path))
        nats_url = stack.enter_context(composed_nats(secrets))
        port = await stack.enter_async_context(composed_postgres(secrets))

        def environment(name: str, **other: str) -> dict[str, str]:
            """Return the environment of a service, with the addresses of this machine."""
            written = environment_of(name, secrets, **other)
            if "MEDIABUS_NATS_URL" in written:
                written["MEDIABUS_NATS_URL"] = nats_url
            database = written.get("MEDIABUS_DATABASE_URL", "")
            here = database.replace("@postgres:5432/", f"@127.0.0.1:{port}/")
            return written | ({"MEDIABUS_DATABASE_URL": here} if here else {})

        migrate = stack.enter_context(
            process(SERVICES["migrate"]["command"], environment("migrate"))
        )
        assert await asyncio.to_thread(migrate.wait, 60) == 0
        ports = {name: str(free_port()) for name in (*DAEMONS, *READERS)}
        own = {
            "service": {"MEDIABUS_CONFIG": str(settings)},
            "notify": {"MEDIABUS_CONFIG": str(settings)},
            "mqtt": {"MEDIABUS_MQTT_URL": broker},
            "web": {"MEDIABUS_DATA_DIR": str(tmp_path / "web")},
        }
        running = [
            stack.enter_context(
                process(
                    SERVICES[name]["command"],
                    environment(name, MEDIABUS_HTTP_PORT=port, **own.get(name, {})),
                )
            )
            for name, port in ports.items()
        ]
        for port in ports.values():
            url = f"http://127.0.0.1:{port}/readyz"
            await eventually(functools.partial(is_ready, url), within=90)
            assert await asyncio.to_thread(is_healthy, port)
        metrics = f"http://127.0.0.1:{ports['mqtt']}/metrics"
        await eventually(
            functools.partial(is_ready, metrics, "mediabus_mqtt_connected 1.0"), within=60
        )
        looking = stack.enter_context(process(SERVICES["cli"]["command"], environment("cli")))
        assert await asyncio.to_thread(looking.wait, 60) in {0, 1}  # 1: it has no client to watch
        assert not (tmp_path / "web" / SETTINGS_FILE).exists()  # only `mediabus up` writes it
        for one in running:
            one.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert [await asyncio.to_thread(one.wait, 10) for one in running] == [0] * len(ports)
        assert time.monotonic() - began < 10
        assert not await asyncio.to_thread(is_healthy, ports["service"])


def is_healthy(port: str) -> bool:
    """Return the result of the image's health check."""
    environment = {"PATH": f"{PROGRAMS}:{os.defpath}", "MEDIABUS_HTTP_PORT": port}
    command = words_of("processes", "HEALTHCHECK")
    done = subprocess.run(command, check=False, env=environment, stderr=subprocess.DEVNULL)
    return done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_entrypoint_runs_the_command_as_puid_and_pgid() -> None:
    entrypoint = ["sh", str(ROOT / "deploy" / "entrypoint.sh")]
    script = 'echo "$(id -u) $(id -g) $(id -G)"; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status'
    command = [*entrypoint, "sh", "-c", script]
    environment = {"PATH": os.defpath, "PUID": "1234", "PGID": "2345"}
    said = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    assert said.stdout.split() == [
        *("1234", "2345", "2345"),
        *("CapEff:", "0" * 16, "NoNewPrivs:", "1"),
    ]
    command[:0] = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups"]
    said = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert said.stdout.startswith("4321 4321") or "Permission denied" in said.stderr
