"""An Apprise URL: e-mail, chat programs, phones. Needs the extra ``mediabus[notify]``."""

import asyncio
import concurrent.futures
import logging
import threading
from typing import Any, Final

from mediabus.consumers.notifier.targets.port import Failed, Message
from mediabus.schemas.events import Severity

LOGGER: Final = "apprise"

NOTIFY_TYPES: Final[dict[Severity, str]] = {
    "info": "info",
    "warning": "warning",
    "error": "failure",
}
MAX_LINES: Final = 5
"""Warnings kept for one reason."""

MISSING: Final = "an Apprise URL needs the extra notify: pip install 'mediabus[notify]'"
UNKNOWN: Final = "Apprise does not know such a URL: see github.com/caronc/apprise/wiki"


class AppriseUrl:
    """One service of Apprise. Retries are those of the notifier."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=LOGGER)
        self._sending: asyncio.Future[str] | None = None
        self._service()  # fail at the start, not at the first event

    async def close(self) -> None:
        """Do not wait for a message that hangs."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def send(self, message: Message) -> str:
        """Send a message, in a thread. Apprise answers only whether it was accepted.

        The thread belongs to the target: one that hangs would otherwise keep those of the process
        busy, which also look up names for NATS and PostgreSQL.
        """
        if self._sending is not None and not self._sending.done():
            raise Failed("the last message still hangs")
        loop = asyncio.get_running_loop()
        self._sending = loop.run_in_executor(self._thread, self._send, message)
        self._sending.add_done_callback(_take_error)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(self._sending)
        except TimeoutError as error:
            raise Failed(
                f"no answer within {self._timeout:g} s: it may have the message"
            ) from error

    def _send(self, message: Message) -> str:
        reasons = _Reasons()
        logger = logging.getLogger(LOGGER)
        logger.addHandler(reasons)
        worst = max((envelope.severity for envelope in message.envelopes), key=_level)
        try:
            accepted = self._service().notify(
                body=message.text,
                title=message.title,
                notify_type=NOTIFY_TYPES[worst],
                body_format="text",
            )
        except Exception as error:
            raise Failed(f"Apprise failed: {type(error).__name__}: {error}") from error
        finally:
            logger.removeHandler(reasons)
        if not accepted:
            raise Failed(reasons.text or "the service did not accept the message")
        return "accepted"

    def _service(self) -> Any:  # noqa: ANN401 - a plugin of Apprise
        """Create the service again for each message.

        One that is used again waits for seconds between two messages.
        """
        try:
            import apprise  # noqa: PLC0415 - an extra, and slow to import
        except ImportError as error:
            raise ValueError(MISSING) from error
        logger = logging.getLogger(LOGGER)
        logger.propagate = False  # its lines hold URLs with tokens, and so do those of urllib3
        logging.getLogger("urllib3").setLevel(logging.INFO)
        service = apprise.Apprise.instantiate(self._url)
        if service is None:
            raise ValueError(UNKNOWN)
        return service


def _take_error(sending: "asyncio.Future[str]") -> None:
    """Mark the error of a message as seen: no task waits for one that was given up."""
    if not sending.cancelled():
        sending.exception()


def _level(severity: Severity) -> int:
    return tuple(NOTIFY_TYPES).index(severity)


class _Reasons(logging.Handler):
    """Collects Apprise's warnings: the only place where it names the cause of a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of this thread. Other targets log at the same time."""
        if record.thread == self._thread and len(self._lines) < MAX_LINES:
            self._lines.append(record.getMessage())

    @property
    def text(self) -> str:
        return "; ".join(self._lines)
