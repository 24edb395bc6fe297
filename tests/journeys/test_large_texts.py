"""What a client called its downloads may be of any length: each step of them is an event."""

from mediabus.runtime.settings import Settings
from mediabus.schemas.identity import uuid7
from mediabus.wiring.registry import PERSIST, SERVICE
from tests.support.library import library

INSERT = """
INSERT INTO downloads (id, title, state, client, client_item, protocol, indexer, error_message)
VALUES ($1, $2, 'active', 'gone', $3, 'torrent', $2, $2)
"""


async def test_a_download_with_a_name_of_two_megabytes_is_cancelled(
    settings: Settings,
) -> None:
    download_id = uuid7()
    async with library(settings, (SERVICE, PERSIST)) as user:
        await user.pool.execute(INSERT, download_id, "ü" * 2_000_000, "0" * 40)
        cancelled = await user.ask("downloads.cancel", {"id": str(download_id)})
        assert len(cancelled["title"]) < 5000
        event = await user.event("download.cancelled", str(download_id))
    assert event["data"]["title"].endswith("ü… [shortened from 2000000 characters]")
