"""The sessions of the operations follow the settings, and let calls in progress finish."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mediabus.service.clients import sessions as module
from mediabus.service.clients.port import DownloadClient
from mediabus.service.clients.sessions import NoSuchClient, OpenSessions, open_sessions
from mediabus.service.clients.settings import ClientSettings
from tests.support.eventually import eventually

LOG: list[str] = []


class FakeClient:
    """A session that only has a version."""

    def __init__(self, password: str) -> None:
        self._password = password

    async def version(self) -> str:
        return self._password

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not called")


class FakeSettings(ClientSettings, frozen=True, kw_only=True, tag="fake"):
    """A client whose sessions are counted."""

    protocol = "torrent"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        LOG.append(f"open {self.name} {self.password}")
        try:
            yield FakeClient(self.password)
        finally:
            LOG.append(f"close {self.name} {self.password}")


def client(name: str, password: str = "1", **more: Any) -> FakeSettings:
    return FakeSettings(name=name, url="http://127.0.0.1", password=password, **more)


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


async def version_of(sessions: OpenSessions, name: str) -> str:
    return await sessions.client(name).version()


async def test_only_what_differs_gets_a_new_session() -> None:
    async with open_sessions([client("a"), client("b"), client("c")]) as sessions:
        kept = sessions.client("a")
        await sessions.apply([client("a"), client("b", "2"), client("d")])
        assert sessions.client("a") is kept
        assert await version_of(sessions, "b") == "2"
        assert await version_of(sessions, "d") == "1"
        with pytest.raises(NoSuchClient):
            sessions.client("c")
        assert sessions.choose(None, "torrent") == "a"
        assert LOG == ["open a 1", "open b 1", "open c 1", "open b 2", "open d 1"]
    assert sorted(LOG[5:]) == ["close a 1", "close b 1", "close b 2", "close c 1", "close d 1"]


async def test_a_replaced_session_closes_after_calls_in_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_CALL", 0.2)
    async with open_sessions([client("a")]) as sessions:
        old = sessions.client("a")
        await sessions.apply([client("a", "2")])
        assert await old.version() == "1"
        assert "close a 1" not in LOG
        await eventually(lambda: "close a 1" in LOG)
        assert await version_of(sessions, "a") == "2"
    assert LOG == ["open a 1", "open a 2", "close a 1", "close a 2"]


async def test_a_disabled_client_has_no_session() -> None:
    async with open_sessions([client("a")]) as sessions:
        await sessions.apply([msgspec.structs.replace(client("a"), enabled=False)])
        with pytest.raises(NoSuchClient, match="no enabled client named 'a'"):
            sessions.client("a")
        await sessions.apply([client("a")])
        assert await version_of(sessions, "a") == "1"
