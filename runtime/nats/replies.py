"""Restrict replies to inboxes.

The requester chooses the reply subject, and the responder publishes the reply with its own
permissions. A request could name the subject of an event and make the process publish there. So
mediabus replies only to inboxes, which are used for nothing else.
"""

import functools
import logging
from typing import Final

from nats.aio.msg import Msg

from mediabus.runtime import metrics

log: Final = logging.getLogger("mediabus.replies")

INBOXES: Final = ("_INBOX.", "_R_.")
"""Prefixes of a client's inboxes, and of nats-server's for requests from another account."""


def may_reply(message: Msg) -> bool:
    """Return whether the reply subject of a request is an inbox.

    Other reply subjects are counted, and logged once for each request subject.
    """
    if message.reply.startswith(INBOXES):
        return True
    if message.reply:
        metrics.REPLIES_REFUSED.inc()
        _log_once(message.subject)
    return False


@functools.lru_cache(maxsize=256)
def _log_once(subject: str) -> None:
    log.warning("request ignored: reply subject is not an inbox", extra={"subject": subject})
