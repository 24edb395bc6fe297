"""The NATS account of a connection and the prefix of its JetStream API.

`mediabus secure` creates one account per key. Only the account ``mediabus`` has streams. The other
accounts import the parts of its JetStream API that they may use, under a prefix.
"""

import asyncio
from typing import Final

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from mediabus.runtime.nats.client import NotAllowed

STREAMS_ACCOUNT: Final = "mediabus"
"""The account that holds the streams."""

KEY_ACCOUNTS: Final = f"{STREAMS_ACCOUNT}-"
"""Prefix of the accounts of all other keys."""

API: Final = "$JS.API"
IMPORTED_API: Final = f"$JS.{STREAMS_ACCOUNT}.API"
"""Prefix of the API in the accounts of keys. NATS clients select it with the JetStream domain
``mediabus``."""

USER_INFO: Final = "$SYS.REQ.USER.INFO"
REPLY_TIMEOUT: Final = 2.0


class _User(msgspec.Struct, frozen=True):
    account: str = ""


class _UserInfo(msgspec.Struct, frozen=True):
    data: _User = _User()


async def account_of(nc: Client) -> str:
    """Ask the server for the account of a connection.

    The account is authoritative: only the server can answer this request. Returns "" if this user
    may not ask.
    """
    while True:
        try:
            reply = await nc.request(USER_INFO, timeout=REPLY_TIMEOUT)
            return msgspec.json.decode(reply.data, type=_UserInfo).data.account
        except (NotAllowed, NoRespondersError, msgspec.DecodeError):
            return ""
        except (NatsError, TimeoutError):
            await asyncio.sleep(0.1)


def is_secured(account: str) -> bool:
    """Return whether `mediabus secure` created the account.

    In such an account, NATS itself vouches for actors and publishers.
    """
    return account == STREAMS_ACCOUNT or account.startswith(KEY_ACCOUNTS)


def api_prefix(account: str) -> str:
    """Return the prefix of the JetStream API for connections in this account."""
    return IMPORTED_API if account.startswith(KEY_ACCOUNTS) else API
