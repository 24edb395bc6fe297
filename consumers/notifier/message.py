"""Make the message about events for a target, and keep its secrets out of what is shown."""

import datetime
import logging
from collections.abc import Sequence
from typing import Final

from mediabus.consumers.notifier.settings import Target
from mediabus.consumers.notifier.targets.port import Failed, Message
from mediabus.consumers.notifier.templates import TemplateFailed, text_of, title_of
from mediabus.runtime.redact import without_secrets
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.plain_text import plain

log: Final = logging.getLogger("mediabus.notifier")

MAX_REASON: Final = 500
"""Characters of the reason of a failure."""

READ_OF_REASON: Final = 8 * MAX_REASON
"""Characters that are searched for secrets. A reason can hold the headers of a receiver: 800 kB."""


def message_of(target: Target, envelopes: Sequence[Envelope], now: datetime.datetime) -> Message:
    """Return the message. With a template that fails, it has the default text."""
    try:
        text = target.template.render(envelopes)
    except TemplateFailed as error:
        log.warning("template failed", extra={"target": target.name, "reason": str(error)})
        text = text_of(envelopes)
    return Message(envelopes, title_of(envelopes), text, now)


def hidden(target: Target, failed: Failed) -> Failed:
    """Return a failure without secrets, in one line of bounded length."""
    reason = failed.reason[:READ_OF_REASON]
    for secret in target.hidden:
        reason = reason.replace(secret, "…")
    reason = plain(without_secrets(reason))[:MAX_REASON]
    return Failed(reason, is_final=failed.is_final, retry_after=failed.retry_after)
