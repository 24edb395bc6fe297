"""Rejections in the format of JetStream, because the caller expects a reply of the server."""

from typing import Any, Final

NOT_ALLOWED: Final = 10_900
"""The ``err_code`` of rejections. Those of nats-server end below 10,300."""


class Refused(Exception):
    """The service rejected a request. ``code`` is an HTTP status code."""

    def __init__(self, code: int, description: str, err_code: int = NOT_ALLOWED) -> None:
        super().__init__(description)
        self.code = code
        self.err_code = err_code

    def reply(self) -> dict[str, Any]:
        """Return the body of the reply, as JetStream formats its errors."""
        error = {"code": self.code, "err_code": self.err_code, "description": str(self)}
        return {"error": error, "stream": "", "seq": 0}
