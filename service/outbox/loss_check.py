"""Check whether NATS still has the newest event that the relay published."""

from collections.abc import Sequence
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.subjects import EVENTS_STREAM

NEWEST_PUBLISHED: Final = """
SELECT position, subject FROM outbox WHERE position <= $1 OR position = ANY ($2::bigint[])
ORDER BY position DESC LIMIT 1
"""
IS_NO_OLDER: Final = "SELECT true FROM outbox WHERE id::text = $1 AND position >= $2"


async def has_lost_events(pool: Pool, bus: Bus, cursor: int, ahead: Sequence[int]) -> bool:
    """Return whether the stream lacks the newest published event that is still in the outbox.

    Published are the rows up to position ``cursor`` and those at the positions ``ahead``. A server
    that loses messages loses the end of its stream, so the newest event is enough. A later event of
    the same subject proves as much.

    Raises:
        PublishFailed: the stream cannot be read.
    """
    newest = await pool.fetchrow(NEWEST_PUBLISHED, cursor, ahead)
    if newest is None:
        return False
    try:
        message = await bus.js.get_last_msg(EVENTS_STREAM, newest["subject"])
    except NotFoundError:
        return True
    except (NatsError, APIError, TimeoutError) as error:
        raise PublishFailed(
            f"cannot read the stream {EVENTS_STREAM}: {error_text(error)}"
        ) from error
    last_id = (message.headers or {}).get("Nats-Msg-Id")
    return not await pool.fetchval(IS_NO_OLDER, last_id, newest["position"])
