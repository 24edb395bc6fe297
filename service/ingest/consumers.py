"""Create JetStream consumers for the accounts of keys, with a checked configuration."""

from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from mediabus.runtime.nats.account import API
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.subjects import NOTIFIER, NOTIFIER_CONSUMERS, REPLAY_STREAM, replayed
from mediabus.service.ingest.refusal import Refused

ALLOWED_FIELDS: Final = frozenset(
    {
        "durable_name", "description", "deliver_policy", "opt_start_seq", "opt_start_time",
        "ack_policy", "ack_wait", "max_deliver", "backoff", "filter_subject", "filter_subjects",
        "replay_policy", "max_ack_pending", "max_waiting", "inactive_threshold", "headers_only",
        "num_replicas", "mem_storage", "metadata",
    }
)  # fmt: skip
"""Fields of a consumer's configuration that a key may set. ``deliver_subject`` is not one of them:
the server would publish to any subject that it names."""


class ConsumerRequest(msgspec.Struct):
    """A request to create a consumer, in the format of JetStream."""

    stream_name: str
    config: dict[str, Any]


async def make_consumer(bus: Bus, message: Msg) -> bytes:
    """Create the consumer that a message requests, and return the reply of JetStream.

    Raises:
        Refused: the configuration is not allowed, or JetStream does not answer.
    """
    owner, stream, name = message.subject.split(".")[-3:]
    if owner == NOTIFIER and not name.startswith(NOTIFIER_CONSUMERS):
        raise Refused(403, f"the consumers of the notifier begin with {NOTIFIER_CONSUMERS}")
    try:
        request = msgspec.json.decode(message.data, type=ConsumerRequest)
    except NOT_JSON as error:
        raise Refused(400, f"invalid request to create a consumer: {error}") from error
    _check(request, stream, name)
    request.config = {key: value for key, value in request.config.items() if key in ALLOWED_FIELDS}
    subject = f"{API}.CONSUMER.DURABLE.CREATE.{stream}.{name}"
    try:
        reply = await bus.nc.request(subject, msgspec.json.encode(request), timeout=4)
    except (NatsError, TimeoutError) as error:
        raise Refused(503, f"JetStream does not answer: {error or 'timeout'}") from error
    return reply.data


def _check(request: ConsumerRequest, stream: str, name: str) -> None:
    config = request.config
    if (request.stream_name, config.get("durable_name")) != (stream, name):
        raise Refused(400, "the subject and the request name different consumers")
    others = sorted(
        key for key, value in config.items() if value and key not in ALLOWED_FIELDS | {"name"}
    )
    if others:
        raise Refused(400, f"a consumer of this key cannot set {', '.join(others)}")
    if stream == REPLAY_STREAM:
        filters = [config.get("filter_subject"), *(config.get("filter_subjects") or [])]
        given = [subject for subject in filters if subject]
        own = replayed(name, "")
        if not given or not all(str(subject).startswith(own) for subject in given):
            raise Refused(
                400,
                f"a consumer of {REPLAY_STREAM} may only read what is replayed to itself: "
                f"filter by {own}>",
            )
