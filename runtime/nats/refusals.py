"""JetStream's errors: which are final, and what to do about them."""

import re
from typing import Final

from nats.errors import NoRespondersError
from nats.js.errors import APIError

from mediabus.runtime.error_text import error_text

TEMPORARY: Final = {
    10005,  # no suitable peers: too few servers of a cluster are up
    10058,  # the stream exists with another configuration: another process just created it
    10074,  # replicas without a cluster: its servers may be started later
}
"""Errors with status 400 that may be temporary."""

FINAL: Final = {10039}
"""Errors with another status that are final: no JetStream for this account."""

ANY_REASON: Final = {
    10012,  # a consumer cannot be created
    10052,  # a stream cannot be created
}
"""Error codes that JetStream uses for different failures.

They mean a configuration that it always rejects, but also a full disk or too many open files.
"""

OF_THE_CONFIGURATION: Final = re.compile(
    r"can ?not (be|contain|have|update)|\binvalid\b|\bmust\b|\bneeds? to\b|\brequire"
    r"|\bnot (allowed|permitted|supported|valid)\b"
)
"""How JetStream describes a configuration that it never takes. Anything else may pass."""

LIMITS: Final = {10002, 10026, 10028}
"""The limits of an account, and a stream's limit of consumers."""

NO_JETSTREAM: Final = (
    "JetStream is not enabled on the NATS server: start it with --jetstream, or with "
    "`jetstream { store_dir: … }` in its configuration"
)

ADVICE: Final = {
    10002: "raise the JetStream limits of the account, or lower nats.max_bytes",
    10025: "a setting is too large for NATS: check nats.max_age_days",
    10026: "raise max_consumers of the account or the stream, or remove idle consumers",
    10027: "raise max_streams of the account: mediabus needs four streams",
    10028: "raise the JetStream limits of the account, or lower nats.max_bytes",
    10034: "remove the stream, or give mediabus a NATS account of its own",
    10039: "enable JetStream for this account in the NATS server's configuration",
    10047: "raise the JetStream limits of the account, or lower nats.max_bytes",
    10065: "another stream has subjects of mediabus: give mediabus a NATS account of its own",
    10113: "set nats.max_bytes (MEDIABUS_NATS_MAX_BYTES) to a number of bytes per stream",
    10122: "lower nats.max_bytes to what the account allows for one stream",
}
"""What to do, by JetStream's error code."""


class StreamRefused(Exception):
    """JetStream refuses a stream that mediabus needs. The message says what to do."""


class ConsumerRefused(Exception):
    """JetStream will always refuse a consumer with this configuration."""


def is_final(error: Exception) -> bool:
    """Return whether a retry is useless until someone changes a configuration."""
    if not isinstance(error, APIError) or error.err_code in TEMPORARY:
        return False
    if error.err_code in ANY_REASON:
        return OF_THE_CONFIGURATION.search(error.description or "") is not None
    return error.code == 400 or error.err_code in FINAL


def is_about_limits(error: Exception) -> bool:
    """Return whether an error is about a limit, which other consumers may free."""
    return isinstance(error, APIError) and error.err_code in LIMITS


def has_no_jetstream(error: Exception, info: dict[str, object]) -> bool:
    """Return whether JetStream did not answer and the server's INFO does not list it."""
    is_unanswered = isinstance(error, NoRespondersError) or (
        isinstance(error, APIError) and error.err_code is None and error.code is None
    )
    return is_unanswered and not info.get("jetstream")


def with_advice(error: Exception) -> str:
    """Return JetStream's description of an error, with advice if there is any."""
    if not isinstance(error, APIError):
        return error_text(error)
    description = error.description or str(error)
    advice = ADVICE.get(error.err_code or 0)
    return f"{description}: {advice}" if advice else description
