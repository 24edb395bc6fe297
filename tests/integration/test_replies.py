"""Replies go to inboxes only, because they are published with the permissions of the service."""

import logging
from typing import Any
from uuid import uuid4

import pytest

from mediabus.runtime.api.serve import Headers, endpoint, serving
from mediabus.runtime.metrics import REPLIES_REFUSED
from mediabus.runtime.nats import replies
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import GetById, Request

REFUSED = (
    "events.media.media_item.removed.1",
    "$KV.download_status.client",
    "dead_letters.persister.invalid",
    "media.delete",
    "$JS.API.STREAM.PURGE.EVENTS",
    "_INBOXES.a",
    "x_INBOX.a",
)


@pytest.mark.parametrize("reply", REFUSED)
@pytest.mark.parametrize("subject", ["test.list", "$SRV.INFO", "$SRV.PING", "$SRV.STATS.test"])
async def test_a_request_with_a_reply_subject_outside_inboxes_is_ignored(
    bus: Bus, subject: str, reply: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mediabus.replies")
    replies._log_once.cache_clear()
    callers: list[Actor] = []
    before = REPLIES_REFUSED._value.get()

    async def handle(_: Request, actor: Actor, __: Headers) -> Any:
        callers.append(actor)
        return GetById(id=uuid4())

    listing = endpoint("test.list", Request, handle)
    async with serving(bus, name="test", description="Lists", endpoints=[listing]):
        victim = await bus.nc.subscribe(reply)
        for _ in range(3):
            await bus.nc.publish(subject, b"{}", reply=reply)
        reply_message = await bus.nc.request("test.list", b"{}", timeout=5)
        assert b"id" in reply_message.data
        await bus.nc.flush()
        assert victim.pending_msgs == 0
    assert len(callers) == 1
    assert REPLIES_REFUSED._value.get() == before + 3
    assert caplog.text.count("reply subject is not an inbox") == 1
    for stream in ("EVENTS", "DEAD_LETTERS", "KV_download_status"):
        assert (await bus.js.stream_info(stream)).state.messages == 0
