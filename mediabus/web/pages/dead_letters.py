"""Inspect, retry and discard dead letters."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from aiohttp import web

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.api.request import ask
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.dead_letters import DeadLetterMessage, DeadLettersHandled
from mediabus.schemas.operations.requests import ACTOR_ID_HEADER, ACTOR_TYPE_HEADER
from mediabus.web.context import Web, actor_of, request_rest
from mediabus.web.forms import submitted
from mediabus.web.notice import Notice, failure
from mediabus.web.pages import needs_you

AT_ONCE: Final = 100
"""Dead letters in one request."""

DONE: Final = {"retry": "published again", "discard": "discarded"}


async def dead_letter(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Show one dead letter with the body of its message."""
    numbers = list(_numbers([request_rest(request)]))
    if not numbers:
        raise web.HTTPNotFound(text="there is no such dead letter\n")
    try:
        found = await ask(context.bus, "dead.get", {"number": numbers[0]}, DeadLetterMessage)
    except (OperationFailed, NoAnswer) as error:
        notice, status = failure(error)
        return await needs_you.show(context, request, notice=notice, status=status)
    return context.render(
        request,
        "dead_letter.html",
        page="needs-you",
        letter=found.letter,
        body=found.body,
        size=found.size,
        notice=None,
    )


async def change(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Retry or discard the selected dead letters, or all that the page showed."""
    form = await submitted(request)
    action, _, scope = form.text("do").partition("-")
    numbers = sorted(set(_numbers(form.texts("shown" if scope == "shown" else "number"))))
    if action not in DONE:
        raise web.HTTPNotFound(text="there is no such action\n")
    if not numbers:
        notice, status = Notice("warning", "Select at least one dead letter first."), 400
    else:
        notice, status = await _handled(context.bus, action, numbers, actor_of(request))
    return await needs_you.show(context, request, notice=notice, status=status)


async def _handled(bus: Bus, action: str, numbers: list[int], actor: Actor) -> tuple[Notice, int]:
    headers = {ACTOR_TYPE_HEADER: actor.type, ACTOR_ID_HEADER: actor.id}
    done, failed = 0, []
    for start in range(0, len(numbers), AT_ONCE):
        wanted = {"numbers": numbers[start : start + AT_ONCE]}
        try:
            result = await ask(bus, f"dead.{action}", wanted, DeadLettersHandled, headers=headers)
        except (OperationFailed, NoAnswer) as error:
            return failure(error)
        done += len(result.done)
        failed += result.failed
    text = f"{done} dead {'letter' if done == 1 else 'letters'} {DONE[action]}."
    if failed:
        reason = failed[0].message
        return Notice("error", f"{text} {len(failed)} could not be {DONE[action]}: {reason}"), 409
    return Notice("info", text), 200


def _numbers(texts: Iterable[str]) -> Iterator[int]:
    return (int(text) for text in texts if re.fullmatch(r"[1-9][0-9]{0,17}", text))
