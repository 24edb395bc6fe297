"""Pause, resume and cancel a download in the name of the user who is logged in."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from aiohttp import web

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.api.operations import Downloads
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import Download
from mediabus.web.context import Web, actor_of, redirect, request_rest
from mediabus.web.forms import submitted
from mediabus.web.notice import failure
from mediabus.web.pages import needs_you, now

Act = Callable[[Downloads, UUID, Actor, bool], Awaitable[Download]]

ACTIONS: Final[dict[str, Act]] = {
    "pause": lambda downloads, item, actor, _: downloads.pause(item, actor=actor),
    "resume": lambda downloads, item, actor, _: downloads.resume(item, actor=actor),
    "cancel": lambda downloads, item, actor, delete_files: downloads.cancel(
        item, delete_files=delete_files, actor=actor
    ),
}
PAGES: Final = {"now": now.show, "needs-you": needs_you.show}
"""The pages that have these buttons."""


async def act(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Run the action of a button, then return to its page, which shows the error of a failure."""
    form = await submitted(request)
    page = form.text("page") if form.text("page") in PAGES else "now"
    download, _, name = request_rest(request).partition("/")
    action, item = ACTIONS.get(name), _uuid(download)
    if action is None or item is None:
        raise web.HTTPNotFound(text="there is no such action\n")
    delete_files = form.text("files") == "delete"
    try:
        await action(Downloads(context.bus, None), item, actor_of(request), delete_files)
    except (OperationFailed, NoAnswer) as error:
        notice, status = failure(error)
        return await PAGES[page](context, request, notice=notice, status=status)
    return redirect(context, "" if page == "now" else page)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
