"""What SABnzbd does by itself, asked of a real one. Collected only where ``sabnzbdplus`` is."""

from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from mediabus.schemas.status import ItemId, Phase
from mediabus.service.clients.port import ClientRefused, NzbFile, Snapshot
from mediabus.service.clients.sabnzbd.session import Sabnzbd as Session
from tests.clients.conftest import View
from tests.support import nntp
from tests.support.eventually import eventually
from tests.support.nntp import NewsServer, Post
from tests.support.sabnzbd_daemon import Sabnzbd

DISCARD, PAUSE, FAIL = "1", "2", "3"


class RetryReply(msgspec.Struct, frozen=True):
    """The answer to mode=retry."""

    nzo_id: str


@pytest.fixture(scope="module")
def daemon() -> Iterator[Sabnzbd]:
    with Sabnzbd.started() as running:
        yield running


@pytest.fixture
async def news(daemon: Sabnzbd) -> AsyncIterator[NewsServer]:
    async with nntp.news_server(daemon.news_port) as running:
        yield running


@pytest.fixture
async def client(daemon: Sabnzbd, news: NewsServer) -> AsyncIterator[Session]:
    async with daemon.settings().connect() as session:
        assert isinstance(session, Session)
        yield session
        news.release()
        await configure(session, no_dupes="0")
        await eventually(lambda: emptied(session), within=20)


async def emptied(client: Session) -> bool:
    seen = await client.observe()
    for status in seen.items if isinstance(seen, Snapshot) else ():
        await client.remove(status.item, delete_files=status.phase is not Phase.COMPLETED)
    return isinstance(seen, Snapshot) and not seen.items


async def configure(client: Session, **options: str) -> None:
    for keyword, value in options.items():
        await client._rpc.ask(
            dict[str, object], "set_config", section="misc", keyword=keyword, value=value
        )


async def add(client: Session, post: Post, name: str) -> ItemId:
    return await client.add(NzbFile(post.nzb, name), title="", category=None)


async def test_a_duplicate_paused_by_the_client_has_its_label(
    client: Session, news: NewsServer
) -> None:
    view = View(client)
    post = news.post("a.bin", size=1000)
    await view.until(await add(client, post, "one"), lambda it: it.phase is Phase.COMPLETED)
    await configure(client, no_dupes=PAUSE)

    again = await add(client, post, "two")

    paused = await view.until(again, lambda it: it.phase is Phase.PAUSED)
    assert (paused.by_client, paused.message) == (True, "SABnzbd says: DUPLICATE")
    await client.resume(again)
    done = await view.until(again, lambda it: it.phase is Phase.COMPLETED, within=30)
    assert (done.by_client, done.message) == (False, None)


async def test_a_person_s_pause_is_not_the_client_s(client: Session, news: NewsServer) -> None:
    news.hold(after=3)
    item = await add(client, news.post("b.bin"), "b")

    await client.pause(item)

    paused = await View(client).until(item, lambda it: it.phase is Phase.PAUSED)
    assert (paused.by_client, paused.message) == (False, None)


async def test_a_discarded_duplicate_is_refused_without_a_reason(
    client: Session, news: NewsServer
) -> None:
    view = View(client)
    post = news.post("c.bin", size=1000)
    await view.until(await add(client, post, "three"), lambda it: it.phase is Phase.COMPLETED)
    await configure(client, no_dupes=DISCARD)

    with pytest.raises(ClientRefused, match=r"gives no reason\. It is set to discard duplicates"):
        await add(client, post, "four")

    await configure(client, warn_dupl_jobs="1")
    with pytest.raises(ClientRefused, match='refused: Ignoring duplicate NZB "four"'):
        await add(client, post, "four")
    await configure(client, warn_dupl_jobs="0")


async def test_a_duplicate_that_it_fails_is_rejected(client: Session, news: NewsServer) -> None:
    view = View(client)
    post = news.post("d.bin", size=1000)
    await view.until(await add(client, post, "five"), lambda it: it.phase is Phase.COMPLETED)
    await configure(client, no_dupes=FAIL)

    again = await add(client, post, "six")

    failed = await view.until(again, lambda it: it.phase is Phase.FAILED, within=30)
    assert (failed.reason, failed.message) == ("rejected", "Duplicate NZB")


async def test_an_nzb_that_is_torn_is_refused_with_its_warning_of_now(
    client: Session, news: NewsServer
) -> None:
    assert news
    for _ in range(2):
        with pytest.raises(ClientRefused, match=r"refused: .*a\.nzb"):
            await client.add(NzbFile(b"<nzb><segment>torn", "e"), title="", category=None)


async def test_a_warning_is_shown_until_it_is_cleared(client: Session, news: NewsServer) -> None:
    assert news
    with pytest.raises(ClientRefused):
        await client.add(NzbFile(b"<nzb><segment>torn", "f"), title="", category=None)

    seen = await client.observe()
    assert isinstance(seen, Snapshot)
    assert "a.nzb" in (seen.warning or "")

    await client._rpc.ask(dict[str, object], "warnings", name="clear")
    seen = await client.observe()
    assert isinstance(seen, Snapshot)
    assert seen.warning is None


async def test_a_retry_from_history_has_a_new_id_and_the_same_name(
    client: Session, news: NewsServer
) -> None:
    """What ``mediabus.service.monitor.follow.retries`` goes by."""
    view = View(client)
    post = news.post("g.bin", size=2 << 20)
    news.missing |= set(post.articles[2:20])
    item = await add(client, post, "seven")
    failed = await view.until(item, lambda it: it.phase is Phase.FAILED, within=60)
    news.missing.clear()

    retry = await client._rpc.ask(RetryReply, "retry", value=item)

    done = await view.until(ItemId(retry.nzo_id), lambda it: it.phase is Phase.COMPLETED, within=60)
    assert (retry.nzo_id != item, done.title) == (True, failed.title)
    assert item not in view.items
