"""The entry of a page in the list of pages."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from mediabus.web.context import Web

Handler = Callable[[Web, web.BaseRequest], Awaitable[web.StreamResponse]]


class Page(NamedTuple):
    """A page, below the base path."""

    path: str
    """Without a slash before it. ``*`` at its end stands for the rest of the path."""

    handler: Handler
    methods: tuple[str, ...] = ("GET",)

    is_public: bool = False
    """Whether it needs no login."""

    is_for_viewers: bool = False
    """Whether a viewer may submit it."""

    is_data: bool = False
    """Whether a program reads it: without a login, it refuses instead of asking to sign in."""
