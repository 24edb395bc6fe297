"""Whether NATS still has the end of what it was given."""

from collections.abc import Sequence
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from schemas.subjects import EVENTS_STREAM
from service.runtime.bus import Bus, PublishFailed
from service.runtime.database import Pool

NEWEST_PUBLISHED: Final = """
SELECT position, subject FROM outbox WHERE position <= $1 OR position = ANY ($2::bigint[])
ORDER BY position DESC LIMIT 1
"""
IS_NO_OLDER: Final = "SELECT true FROM outbox WHERE id::text = $1 AND position >= $2"


async def has_forgotten(pool: Pool, bus: Bus, cursor: int, ahead: Sequence[int]) -> bool:
    """Whether the stream lacks the newest event that was published and is still in the outbox: up
    to position ``cursor``, or at one of ``ahead``. A server that forgets, forgets the end; a later
    event of the same subject proves as much as this one. Raises PublishFailed where that cannot be
    asked."""
    newest = await pool.fetchrow(NEWEST_PUBLISHED, cursor, ahead)
    if newest is None:
        return False
    try:
        found = await bus.js.get_last_msg(EVENTS_STREAM, newest["subject"])
    except NotFoundError:
        return True
    except (NatsError, APIError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise PublishFailed(f"NATS does not say what it has: {why}") from error
    last = (found.headers or {}).get("Nats-Msg-Id")
    return not await pool.fetchval(IS_NO_OLDER, last, newest["position"])
