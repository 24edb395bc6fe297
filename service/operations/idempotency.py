"""Run a request with an idempotency key once, and answer repetitions with the same reply.

    headers = {"Mediabus-Idempotency-Key": "add-dune-2021"}

A key belongs to its actor and is kept for a day. An operation that only uses PostgreSQL commits its
change, its event and its reply together (``Requests.in_one_transaction``). An operation that calls
a download client cannot. It claims the key first, and a repetition after a crash reads from the
claim how far the first request came (``Requests.in_steps``).
"""

import asyncio
import contextlib
import dataclasses
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from mediabus.runtime.api.serve import OperationError, Reply, problem
from mediabus.runtime.postgres.database import AWAY, RESTORING, Connection, Pool
from mediabus.schemas.identity import Actor, uuid7
from mediabus.schemas.operations.requests import ErrorReply, Request
from mediabus.service.outbox.joined import JoinedOutbox, NotingOutbox
from mediabus.service.outbox.outbox import Outbox

KEPT_FOR: Final = 86_400.0
"""Seconds that a key and its reply are kept."""
CLAIM_EXPIRES_AFTER: Final = 120.0
"""Seconds after which the process that claimed a key counts as dead. No request takes longer."""
CLAIM_TIMEOUT: Final = 5.0
"""Seconds to wait for the transaction of another request with the same key."""
CLEAN_EVERY: Final = 600.0
"""Seconds between two searches for expired keys."""
MAX_CLEANED_ROWS: Final = 1000
"""Rows deleted by one statement, so that none holds its locks for long."""

CLAIM: Final = """
INSERT INTO idempotent_requests AS old
    (actor_type, actor_id, key, operation, digest, subject)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (actor_type, actor_id, key) DO UPDATE SET
    operation = $4, digest = $5, subject = $6, changed = false, reply = NULL, failed = false,
    created_at = now(), claimed_at = now()
WHERE old.created_at < now() - $7 * interval '1 second'
RETURNING key
"""
FIND: Final = """
SELECT operation, digest, subject, changed, reply, failed FROM idempotent_requests
WHERE actor_type = $1 AND actor_id = $2 AND key = $3
"""
TAKE_OVER: Final = """
UPDATE idempotent_requests SET claimed_at = now()
WHERE actor_type = $1 AND actor_id = $2 AND key = $3 AND reply IS NULL
  AND claimed_at < now() - $4 * interval '1 second'
RETURNING key
"""
CHANGED: Final = """
UPDATE idempotent_requests SET changed = true
WHERE actor_type = $1 AND actor_id = $2 AND key = $3
"""
ANSWERED: Final = """
UPDATE idempotent_requests SET reply = $4, failed = $5, changed = true
WHERE actor_type = $1 AND actor_id = $2 AND key = $3
"""
RELEASE: Final = """
DELETE FROM idempotent_requests
WHERE actor_type = $1 AND actor_id = $2 AND key = $3 AND NOT changed AND reply IS NULL
"""
ABANDON: Final = """
UPDATE idempotent_requests SET claimed_at = '-infinity'
WHERE actor_type = $1 AND actor_id = $2 AND key = $3
"""
CLEAN: Final = """
DELETE FROM idempotent_requests WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotent_requests WHERE created_at < now() - $1 * interval '1 second'
    LIMIT $2))
"""

RequestT = TypeVar("RequestT", bound=Request)


@dataclasses.dataclass(frozen=True)
class Claim:
    """The claim of a request on its key.

    ``subject`` is the id of the resource that the request creates. ``resumed`` is true if an
    earlier request with the key was interrupted, ``changed`` if that one had made its change.
    """

    actor: Actor
    key: str
    operation: str
    digest: bytes
    subject: UUID
    resumed: bool = False
    changed: bool = False

    @property
    def row_key(self) -> tuple[str, str, str]:
        """Return the primary key of the row."""
        return self.actor.type, self.actor.id, self.key

    async def note_change(self, connection: Connection | Pool) -> None:
        """Note that the change was made, in the transaction of the change."""
        await connection.execute(CHANGED, *self.row_key)


class Requests:
    """Runs requests with a key, and answers repetitions of the last day."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox
        self._turns: dict[tuple[str, str, str], asyncio.Lock] = {}
        self._waiting: Counter[tuple[str, str, str]] = Counter()

    async def in_one_transaction(
        self,
        claim: Claim,
        operation: Callable[[Outbox], Awaitable[msgspec.Struct]],
    ) -> Reply:
        """Run an operation in one transaction, or return its reply if it was done before.

        The operation makes its changes through the outbox it is given. If it raises, the
        transaction is rolled back with the claim, and the key can be used again.
        """
        async with self._turn(claim), self._outbox.transaction() as work:
            if not await _claim(work.connection, claim):
                return _stored_reply(await _find(work.connection, claim))
            reply = msgspec.json.encode(await operation(JoinedOutbox(work)))
            await work.connection.execute(ANSWERED, *claim.row_key, reply, False)
        return msgspec.Raw(reply)

    async def in_steps(
        self,
        claim: Claim,
        operation: Callable[[Claim, Outbox], Awaitable[msgspec.Struct]],
    ) -> Reply:
        """Run an operation that calls other systems, or return its reply if it was done before.

        The claim shows the operation whether it resumes an interrupted request. An error after a
        change is stored as the reply; an error before any change releases the key.
        """
        async with self._turn(claim):
            if not await _claim(self._pool, claim):
                found = await _find(self._pool, claim)
                if found["reply"] is not None:
                    return _stored_reply(found)
                claim = await self._take_over(claim, found)
            outbox = NotingOutbox(self._outbox, claim.note_change)
            try:
                reply = msgspec.json.encode(await operation(claim, outbox))
            except OperationError as error:
                await self._record_failure(claim, error)
                raise
            except Exception:
                with contextlib.suppress(*AWAY, *RESTORING):
                    await self._pool.execute(ABANDON, *claim.row_key)
                raise
            await self._pool.execute(ANSWERED, *claim.row_key, reply, False)
        return msgspec.Raw(reply)

    async def _take_over(self, claim: Claim, found: asyncpg.Record) -> Claim:
        if await self._pool.fetchval(TAKE_OVER, *claim.row_key, CLAIM_EXPIRES_AFTER) is None:
            raise in_progress(claim.key)
        return dataclasses.replace(
            claim, subject=found["subject"], changed=found["changed"], resumed=True
        )

    async def _record_failure(self, claim: Claim, error: OperationError) -> None:
        """Release the key if nothing changed; otherwise store the error as the reply."""
        if error.problem.reason == "in_progress":
            return
        found = await self._pool.fetchrow(FIND, *claim.row_key)
        if found and found["changed"]:
            reply = msgspec.json.encode(ErrorReply(error=error.problem))
            await self._pool.execute(ANSWERED, *claim.row_key, reply, True)
        else:
            await self._pool.execute(RELEASE, *claim.row_key)

    @contextlib.asynccontextmanager
    async def _turn(self, claim: Claim) -> AsyncIterator[None]:
        """Serialize requests with one key in this process, without holding a connection."""
        row_key = claim.row_key
        lock = self._turns.setdefault(row_key, asyncio.Lock())
        self._waiting[row_key] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[row_key] -= 1
            if not self._waiting[row_key]:
                del self._waiting[row_key], self._turns[row_key]

    async def clean(self) -> None:
        """Delete expired keys until cancelled."""
        while True:
            deleted = "DELETE 0"
            with contextlib.suppress(*AWAY, asyncpg.PostgresError):
                deleted = await self._pool.execute(CLEAN, KEPT_FOR, MAX_CLEANED_ROWS)
            await asyncio.sleep(CLEAN_EVERY if deleted == "DELETE 0" else 0)


def claim_of(key: str, operation: str, actor: Actor, request: Request) -> Claim:
    """Return the claim of a request with a key."""
    return Claim(actor, key, operation, _digest(request), uuid7())


def _digest(request: Request) -> bytes:
    """Hash the fields that differ from their defaults, to compare two requests.

    A field added in a later version does not change the hash while it has its default.
    """
    given = {
        field.name: getattr(request, field.name)
        for field in msgspec.structs.fields(request)
        if getattr(request, field.name) not in (field.default, msgspec.UNSET)
    }
    return hashlib.sha256(msgspec.json.encode(given, order="sorted")).digest()


async def _claim(connection: Connection | Pool, claim: Claim) -> bool:
    """Claim the key, and return False if an earlier request has it.

    Waits for another transaction that is claiming the key.

    Raises:
        OperationError: 409 ``in_progress``, the wait timed out.
    """
    values = (*claim.row_key, claim.operation, claim.digest, claim.subject, KEPT_FOR)
    try:
        return await connection.fetchval(CLAIM, *values, timeout=CLAIM_TIMEOUT) is not None
    except (TimeoutError, asyncpg.QueryCanceledError) as error:
        raise in_progress(claim.key) from error


async def _find(connection: Connection | Pool, claim: Claim) -> asyncpg.Record:
    found = await connection.fetchrow(FIND, *claim.row_key)
    if found is None:  # released or expired since the claim
        raise in_progress(claim.key)
    if (found["operation"], found["digest"]) != (claim.operation, claim.digest):
        message = (
            f"the key {claim.key!r} was used for another request ({found['operation']}) within a "
            "day: use a new key for each request"
        )
        raise OperationError(problem(409, "idempotency_key_reused", message))
    return found


def _stored_reply(found: asyncpg.Record) -> Reply:
    """Return the stored reply, or raise the stored error."""
    if found["failed"]:
        raise OperationError(msgspec.json.decode(found["reply"], type=ErrorReply).error)
    return msgspec.Raw(found["reply"])


def in_progress(key: str) -> OperationError:
    """Return the 409 for a request whose key belongs to a request still in progress."""
    message = f"the request with the key {key!r} is in progress: send it again later"
    return OperationError(problem(409, "in_progress", message))
