"""Real download daemons with throw-away profiles, quiet beyond loopback before they start."""

import abc
import base64
import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import aiohttp
import pytest

from mediabus.schemas.status import ItemId, Phase
from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.port import DownloadClient
from mediabus.service.clients.qbittorrent import QBittorrentSettings
from mediabus.service.clients.qbittorrent import session as qbittorrent
from mediabus.service.clients.transmission import TransmissionSettings
from mediabus.service.clients.transmission import session as transmission
from tests.support.ports import free_port

HOST = "127.0.0.1"
USERNAME = "librarian"
PASSWORD = "open sesame: ünïcode"


OWN_MOUNTS = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]


def can_mount() -> bool:
    """Whether a process that we start may mount a disk of its own."""
    command = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def needed(program: str) -> str:
    """The program's path. Without it a test is skipped, and fails where CI is set."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@runtime_checkable
class SelectsFiles(Protocol):
    """A daemon that can leave out files of a torrent."""

    async def want(self, client: DownloadClient, item: ItemId, wanted: Sequence[bool]) -> None:
        """Select the files of a torrent that are wanted, in their order, and deselect the rest."""


class Daemon(abc.ABC):
    """One daemon, its profile and its process, and the properties of its kind.

    ``started`` makes one.
    """

    program: str
    scheme = "http"
    vanished = Phase.FAILED
    """What it calls a complete download whose files are gone, once it was started again."""
    vanished_otherwise: frozenset[Phase] = frozenset()
    """What it may call it too, depending on what it had saved."""

    patience = 20.0
    """Seconds in which it does what it is asked to."""
    forgets_connections = False
    """Whether an outage looks like a restart."""
    has_password = True
    tells_of_trackers = True
    """Whether it reports tracker messages."""
    dies_of_a_full_disk = False
    """Whether it may."""
    not_writable: tuple[str, ...] = ("Not a directory",)
    """Part of its message about an unwritable directory."""

    def __init_subclass__(cls) -> None:
        """Another version of its program is tried where ``MEDIABUS_TEST_<KIND>`` names one."""
        if named := os.environ.get(f"MEDIABUS_TEST_{cls.__name__.upper()}"):
            cls.program = named

    can_want_nothing = True
    """Whether all files of a torrent can be deselected."""

    def shown_name(self, name: str, version: str) -> str | None:  # noqa: ARG002 - one changed
        """What it makes of a download's name; None if it refuses it."""
        return name

    async def end_session(self, client: DownloadClient) -> None:  # noqa: ARG002
        """Ends the session of a client that has one with it; else, or by, its own restart."""
        self.restart()

    def kept(self, category: str) -> str | None:
        """What is left of a download's category, as it shows it."""
        return category

    def __init__(self, home: Path) -> None:
        self.executable = needed(self.program)
        self.home = home
        self.downloads = home / "downloads"
        self.downloads.mkdir()
        self.port = free_port()
        self.peer_port = free_port()
        self.url = f"{self.scheme}://{HOST}:{self.port}"
        self.disk: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.configure()

    @classmethod
    @contextlib.contextmanager
    def started(cls, *, disk: int | None = None) -> Iterator[Self]:
        """Run a daemon. At the end it is killed, and its profile and downloads are removed.

        ``disk`` limits the space of its downloads, in bytes. Only the daemon sees them then.
        """
        with tempfile.TemporaryDirectory(prefix=f"mediabus-{cls.__name__.lower()}-") as home:
            daemon = cls(Path(home))
            daemon.disk = disk
            try:
                daemon.start()
                yield daemon
            finally:
                daemon.kill()

    @abc.abstractmethod
    def configure(self) -> None:
        """Write the whole configuration, before the daemon's first start."""

    @abc.abstractmethod
    def settings(self, *, name: str = "", password: str = PASSWORD) -> AnyClientSettings:
        """The settings to reach this daemon with, called after its kind if ``name`` is empty."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What to run in the foreground."""

    @abc.abstractmethod
    def keeps(self, item: ItemId) -> bool:
        """Whether the download is on its disk, so that it would know of it after a crash."""

    def keeps_completion(self, item: ItemId) -> bool:
        """Whether it would know after a new start that all of the download was there."""
        return self.keeps(item)

    def start(self, *, within: float = 20.0) -> None:
        """Run it and wait until its web port answers."""
        log = (self.home / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self._own_disk(), *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env={"PATH": os.defpath, "HOME": str(self.home), "LANG": "C.UTF-8"},
            )
        self._wait_for_port(time.monotonic() + within)

    def _own_disk(self) -> list[str]:
        """Return the command that runs another one with a small disk of its own.

        The disk is gone when that command ends.
        """
        if self.disk is None:
            return []
        mount = f'mount -t tmpfs -o size={self.disk} none "$0" && exec "$@"'
        return [*OWN_MOUNTS, "sh", "-c", mount, str(self.downloads)]

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def stop(self, *, within: float = 15.0) -> None:
        """Stop it orderly, so that it saves its state. Kill it if it does not stop."""
        self._end(signal.SIGTERM, within)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._end(signal.SIGKILL, 10.0)

    def pause(self) -> None:
        """Stop it (SIGSTOP) until ``resume``."""
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Continue it (SIGCONT)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it orderly and start it again, same port and profile."""
        self.stop()
        self.start()

    def _end(self, how: signal.Signals, within: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10.0)

    def _wait_for_port(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1.0):
                return
            time.sleep(0.02)
        log = (self.home / "log").read_text(errors="replace")[-2000:]
        self.kill()
        raise AssertionError(f"{self.program} does not listen on {self.url}; it says: {log}")


def libtorrent_name(name: str) -> str:
    """Return a download's name as libtorrent changes it (sanitize_append_path_element).

    It has no control characters, no marks of direction, and at most 240 bytes.
    """
    plain = re.sub(r"[\x01-\x1f]", "_", re.sub("[\u200e\u200f\u202a-\u202e]", "", name))
    return plain.encode()[:240].decode(errors="ignore")


class QBittorrent(Daemon):
    """qbittorrent-nox; its configuration is the one of 4.2 and later."""

    program = "qbittorrent-nox"

    def shown_name(self, name: str, version: str) -> str:  # noqa: ARG002
        return libtorrent_name(name)

    def configure(self) -> None:
        path = self.home / "qBittorrent" / "config" / "qBittorrent.conf"
        path.parent.mkdir(parents=True)
        path.write_text(
            QBITTORRENT_CONF.format(
                host=HOST,
                port=self.port,
                peer_port=self.peer_port,
                downloads=self.downloads,
                username=USERNAME,
                password=_pbkdf2(PASSWORD),
            )
        )

    def command(self) -> list[str]:
        return [self.executable, f"--profile={self.home}"]

    def keeps(self, item: ItemId) -> bool:
        return (self.home / "qBittorrent/data/BT_backup" / f"{item}.fastresume").exists()

    async def end_session(self, client: DownloadClient) -> None:
        assert isinstance(client, qbittorrent.QBittorrent)
        await client._rpc.call("POST", "auth/logout")

    async def want(self, client: DownloadClient, item: ItemId, wanted: Sequence[bool]) -> None:
        assert isinstance(client, qbittorrent.QBittorrent)
        for index, is_wanted in enumerate(wanted):
            fields = {"hash": item, "id": str(index), "priority": str(int(is_wanted))}
            form = functools.partial(aiohttp.FormData, fields)
            await client._rpc.call("POST", "torrents/filePrio", form=form)

    def settings(self, *, name: str = "", password: str = PASSWORD) -> QBittorrentSettings:
        return QBittorrentSettings(
            name=name or "qbittorrent", url=self.url, username=USERNAME, password=password
        )


class Transmission(Daemon):
    """transmission-daemon, 3.00 or later."""

    program = "transmission-daemon"
    dies_of_a_full_disk = True  # once in six times, 3.00
    not_writable = ("Not a directory", "Unable to save resume file")  # the second since 4.1

    def configure(self) -> None:
        configuration = TRANSMISSION_JSON | {
            "download-dir": str(self.downloads),
            "peer-port": self.peer_port,
            "rpc-password": PASSWORD,
            "rpc-port": self.port,
            "rpc-username": USERNAME,
        }
        (self.home / "settings.json").write_text(json.dumps(configuration))

    def command(self) -> list[str]:
        return [self.executable, "--foreground", "--config-dir", str(self.home)]

    def keeps(self, item: ItemId) -> bool:
        return any((self.home / "torrents").glob(f"*{item[:16]}*"))

    def shown_name(self, name: str, version: str) -> str:
        """3.00 writes U+1F3AC as five hex digits, which is another letter and a C to JSON."""
        return name.replace("\N{CLAPPER BOARD}", "\u1f3ac") if version == "3.00" else name

    async def want(self, client: DownloadClient, item: ItemId, wanted: Sequence[bool]) -> None:
        assert isinstance(client, transmission.Transmission)
        unwanted = [index for index, is_wanted in enumerate(wanted) if not is_wanted]
        # A list that is empty means all of them.
        if rest := [index for index, is_wanted in enumerate(wanted) if is_wanted]:
            await client._rpc.call(
                dict[str, object], "torrent-set", ids=[item], **{"files-wanted": rest}
            )
        if unwanted:
            await client._rpc.call(
                dict[str, object], "torrent-set", ids=[item], **{"files-unwanted": unwanted}
            )

    def settings(self, *, name: str = "", password: str = PASSWORD) -> TransmissionSettings:
        return TransmissionSettings(
            name=name or "transmission", url=self.url, username=USERNAME, password=password
        )


def _pbkdf2(password: str) -> str:
    """As qBittorrent keeps it (src/base/utils/password.cpp): base64 of salt, colon, of the key."""
    salt = os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 100_000)
    return f"{base64.b64encode(salt).decode()}:{base64.b64encode(key).decode()}"


QBITTORRENT_CONF = """\
[Application]
FileLogger\\Enabled=false

[BitTorrent]
Session\\AddTrackersEnabled=false
Session\\BTProtocol=TCP
Session\\DHTEnabled=false
Session\\DefaultSavePath={downloads}
Session\\Interface=lo
Session\\InterfaceAddress={host}
Session\\InterfaceName=lo
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\Port={peer_port}
Session\\QueueingSystemEnabled=false
Session\\RefreshInterval=200

[LegalNotice]
Accepted=true

[Network]
PortForwardingEnabled=false

[Preferences]
Connection\\ResolvePeerCountries=false
Connection\\UPnP=false
WebUI\\Address={host}
WebUI\\LocalHostAuth=true
WebUI\\Password_PBKDF2="@ByteArray({password})"
WebUI\\Port={port}
WebUI\\UseUPnP=false
WebUI\\Username={username}
"""

TRANSMISSION_JSON: dict[str, object] = {
    "bind-address-ipv4": HOST,
    "bind-address-ipv6": "::1",
    "blocklist-enabled": False,
    "cache-size-mb": 0,
    "dht-enabled": False,
    "lpd-enabled": False,
    "pex-enabled": False,
    "port-forwarding-enabled": False,
    "rpc-authentication-required": True,
    "rpc-bind-address": HOST,
    "rpc-enabled": True,
    "rpc-host-whitelist-enabled": False,
    "rpc-whitelist": HOST,
    "start-added-torrents": True,
    "utp-enabled": False,
}
