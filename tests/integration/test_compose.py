"""compose.yaml, without Docker: what it says is valid, and every command in it does its work."""

import asyncio
import contextlib
import functools
import json
import os
import re
import signal
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
import nats
import pytest
import yaml

from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.servers import PostgresServer, postgres_server

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
DAEMONS = ("service", "monitor", "persist")
PASSWORD = "0123e45 of a test"


def compose() -> dict[str, Any]:
    """compose.yaml as Compose sees it where no variable is set."""
    text = re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "compose.yaml").read_text())
    tree: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))
    return tree


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder with every secret that compose.yaml names."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name in compose()["secrets"]:
        (folder / name).write_text(f"{PASSWORD}\n")
    return folder


def here(value: str, secrets: Path) -> str:
    """What a container finds at a path, on this machine."""
    return value.replace("/run/secrets", str(secrets)).replace("/etc/mediabus/", f"{ROOT}/deploy/")


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A command with nothing but its environment; killed when the test is over."""
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
    """A service's environment, with the paths of this machine, and other values as given."""
    written = {
        key: here(f"{value}", secrets) for key, value in SERVICES[name]["environment"].items()
    }
    assert other.keys() <= written.keys()
    return written | other


@contextlib.contextmanager
def composed_nats(secrets: Path, directory: Path) -> Iterator[str]:
    """nats-server, started by the command and with the configuration of the deployment."""
    port = free_port()
    text = (ROOT / "deploy" / "nats.conf").read_text()
    directory.mkdir()
    config = directory / "nats.conf"
    config.write_text(text.replace('"/data"', json.dumps(str(directory))))
    flags = ["--addr=127.0.0.1", f"--port={port}", f"--http_port={free_port()}"]
    service = SERVICES["nats"]
    written = [here(word, secrets) for word in (*service["entrypoint"], *service["command"])]
    command = [word.replace("/etc/nats/nats.conf", str(config)) for word in written]
    with process([*command, *flags], environment_of("nats", secrets)):
        yield f"nats://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def composed_postgres() -> AsyncIterator[str]:
    """PostgreSQL with the user, the database and the password that its image would make. Its data
    lies where another user may go, which pytest's folders are not for long."""
    wanted = SERVICES["postgres"]["environment"]
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-compose-") as folder,
        postgres_server(Path(folder)) as server,
    ):
        await _make_database(server, wanted["POSTGRES_USER"], wanted["POSTGRES_DB"])
        yield f"{server.port}"


async def _make_database(server: PostgresServer, user: str, database: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        await connection.execute(f"CREATE DATABASE {database} OWNER {user}")
        with (server.data / "pg_hba.conf").open("w") as rules:
            rules.write("host all postgres 127.0.0.1/32 trust\n")
            rules.write("host all all 127.0.0.1/32 scram-sha-256\n")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def is_ready(url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200
    return False


def test_it_follows_the_specification() -> None:
    schema = json.loads((ROOT / "tests" / "support" / "compose-spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(compose())


def test_nothing_is_published_but_nats_and_that_on_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"nats": ["127.0.0.1:4222:4222"]}


def test_every_service_keeps_its_logs_small_and_its_privileges_few() -> None:
    for name, service in SERVICES.items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name


def test_the_processes_wait_for_the_schema_and_their_servers() -> None:
    for name in DAEMONS:
        needs = {one: rule["condition"] for one, rule in SERVICES[name]["depends_on"].items()}
        assert needs == {
            "nats": "service_healthy",
            "postgres": "service_healthy",
            "migrate": "service_completed_successfully",
        }


def test_every_file_that_it_mounts_is_there_and_no_secret_is_committed(tmp_path: Path) -> None:
    mounts = [one for service in SERVICES.values() for one in service.get("volumes", [])]
    local = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]
    assert local
    assert [path for path in local if not (ROOT / path).is_file()] == []
    (tmp_path / "deploy").mkdir()
    maker = tmp_path / "deploy" / "secrets.sh"
    maker.write_bytes((ROOT / "deploy" / "secrets.sh").read_bytes())
    for _ in range(2):  # the second time it keeps what it made
        subprocess.run(["sh", str(maker)], check=True, stdout=subprocess.DEVNULL)
        made = [(tmp_path / secret["file"]).read_text() for secret in compose()["secrets"].values()]
        assert all(re.fullmatch("[0-9a-f]{48}", password) for password in made)
        assert len({*made}) == len(made)
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_its_nats_configuration_is_valid() -> None:
    config = str(ROOT / "deploy" / "nats.conf")
    variables = {"NATS_PASSWORD": f"'{PASSWORD}'"}
    subprocess.run([PROGRAMS / "nats-server", "-t", "-c", config], check=True, env=variables)


async def answer_to(url: str, password: str) -> bytes | None:
    """What NATS says to somebody with this password, first of all; None while it is not there."""
    host, _, port = url.removeprefix("nats://").partition(":")
    who = json.dumps({"user": "mediabus", "pass": password, "verbose": False, "pedantic": False})
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return None
    with contextlib.closing(writer):
        assert (await reader.readline()).startswith(b"INFO ")
        writer.write(f"CONNECT {who}\r\nPING\r\n".encode())
        return await reader.readline()


async def test_nats_lets_in_only_who_knows_the_password(secrets: Path, tmp_path: Path) -> None:
    with composed_nats(secrets, tmp_path / "store") as url:
        assert await eventually(functools.partial(answer_to, url, PASSWORD)) == b"PONG\r\n"
        assert b"Authorization Violation" in (await answer_to(url, "wrong") or b"")
        nc = await nats.connect(url, user="mediabus", password=PASSWORD)
        try:
            await nc.jetstream().account_info()  # raises without JetStream
            assert nc.max_payload == 8 * 1024 * 1024
        finally:
            await nc.close()


async def test_every_command_works_with_its_environment_until_sigterm(
    secrets: Path, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        nats_url = stack.enter_context(composed_nats(secrets, tmp_path / "store"))
        port = await stack.enter_async_context(composed_postgres())
        written = SERVICES["migrate"]["environment"]["MEDIABUS_DATABASE_URL"]
        servers = {
            "MEDIABUS_NATS_URL": nats_url,
            "MEDIABUS_DATABASE_URL": written.replace("@postgres:5432/", f"@127.0.0.1:{port}/"),
        }
        migrate = stack.enter_context(
            process(SERVICES["migrate"]["command"], environment_of("migrate", secrets, **servers))
        )
        assert await asyncio.to_thread(migrate.wait, 60) == 0
        ports = {name: str(free_port()) for name in DAEMONS}
        running = [
            stack.enter_context(
                process(
                    SERVICES[name]["command"],
                    environment_of(name, secrets, **servers, MEDIABUS_HTTP_PORT=ports[name]),
                )
            )
            for name in DAEMONS
        ]
        for name in DAEMONS:
            url = f"http://127.0.0.1:{ports[name]}/readyz"
            await eventually(functools.partial(is_ready, url), within=60)
            assert await asyncio.to_thread(is_healthy, ports[name])
        for one in running:
            one.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert [await asyncio.to_thread(one.wait, 10) for one in running] == [0, 0, 0]
        assert time.monotonic() - began < 10
        assert not await asyncio.to_thread(is_healthy, ports["service"])


def is_healthy(port: str) -> bool:
    """What the image's own health check says."""
    text = (ROOT / "Dockerfile").read_text()
    check = re.search(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", text, re.MULTILINE)
    assert check
    environment = {"PATH": f"{PROGRAMS}:{os.defpath}", "MEDIABUS_HTTP_PORT": port}
    command = json.loads(check[1])
    done = subprocess.run(command, check=False, env=environment, stderr=subprocess.DEVNULL)
    return done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_the_image_runs_its_command_as_whom_it_is_told() -> None:
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
