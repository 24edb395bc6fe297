"""Sign in and out."""

from typing import Final

from aiohttp import web

from mediabus.web.access import COOKIE, Access
from mediabus.web.attempts import Attempts, TooManyAttempts
from mediabus.web.context import VISITOR, Web, redirect
from mediabus.web.page import Page
from mediabus.web.users import ADMIN, Users

MAX_FORM: Final = 4096
"""Bytes."""


class Login:
    """The forms to sign in and out."""

    def __init__(self, users: Users, access: Access, session_seconds: float) -> None:
        self._users = users
        self._access = access
        self._attempts = Attempts(users)
        self._seconds = session_seconds

    def pages(self) -> tuple[Page, ...]:
        """Return the pages of the forms."""
        return (
            Page("login", self.login, ("GET", "POST"), is_public=True, is_for_viewers=True),
            Page("logout", self.logout, ("POST",), is_public=True, is_for_viewers=True),
        )

    async def login(self, context: Web, request: web.BaseRequest) -> web.StreamResponse:
        """Show the form, or check a password and start a session."""
        wanted = _local(request.query.get("next", ""), context.base)
        if request.method != "POST":
            return self._form(context, request, wanted)
        form = await _submitted(request)
        name, password = str(form.get("name", "")), str(form.get("password", ""))
        try:
            is_right = await self._attempts.check(name, password, self._access.address(request))
        except TooManyAttempts as error:
            response = self._form(context, request, wanted, name, f"Too many attempts: {error}.")
            response.set_status(429)
            response.headers["Retry-After"] = str(int(error.seconds) + 1)
            return response
        if not is_right:
            why = "The name or the password is wrong."
            response = self._form(context, request, wanted, name, why)
            response.set_status(403)
            return response
        return self._signed_in(context, request, name, wanted)

    def _signed_in(
        self, context: Web, request: web.BaseRequest, name: str, wanted: str
    ) -> web.Response:
        response = redirect(context, wanted)
        response.set_cookie(
            COOKIE,
            self._users.sign_in(name),
            max_age=int(self._seconds),
            path=f"{context.base}/",
            httponly=True,
            samesite="Strict",
            secure=self._access.is_encrypted(request),
        )
        return response

    async def logout(self, context: Web, request: web.BaseRequest) -> web.StreamResponse:
        """End the session, or all sessions of the user."""
        form = await _submitted(request)
        visitor = request.get(VISITOR)
        if visitor is not None and form.get("everywhere"):
            self._users.sign_out_everywhere(visitor.name)
        response = redirect(context, "login")
        response.del_cookie(COOKIE, path=f"{context.base}/", httponly=True, samesite="Strict")
        return response

    def _form(
        self,
        context: Web,
        request: web.BaseRequest,
        wanted: str,
        name: str = ADMIN,
        why: str = "",
    ) -> web.Response:
        return context.render(request, "login.html", wanted=wanted, name=name[:64], why=why)


async def _submitted(request: web.BaseRequest) -> dict[str, object]:
    """Read a small form. Raises HTTPRequestEntityTooLarge."""
    size = request.content_length
    if size is None or size > MAX_FORM:
        raise web.HTTPRequestEntityTooLarge(MAX_FORM, size or 0)
    return dict(await request.post())


def _local(path: str, base: str) -> str:
    """Return a path below the base without its slash; empty if it leads elsewhere."""
    is_safe = path.isascii() and path.isprintable() and "\\" not in path
    if not is_safe or not path.startswith(f"{base}/"):
        return ""
    below = path.removeprefix(f"{base}/")
    return "" if below.startswith("/") else below
