"""A download client on a page: its state, since when and why, and what to do about it."""

import datetime
from typing import Final

import msgspec

from mediabus.schemas.events.base import Severity
from mediabus.schemas.plain_text import plain
from mediabus.schemas.status import ClientStatus
from mediabus.schemas.wording import client_text, program_text, reason_text

ADVICE: Final = {
    "connection": "Check that it is running and that its url in mediabus.toml is correct.",
    "authentication": "Check its username and password in mediabus.toml, then restart mediabus.",
    "banned": "Correct its password in mediabus.toml, then lift the ban in the client "
    "or restart the client.",
    "rate_limited": "mediabus asks less often by itself. Check what else uses the client.",
    "tls": "Renew the client's certificate, or set tls_ca to the certificate of its issuer.",
    "protocol": "Check that its url leads to the client itself and not to another page.",
}
"""What to do for each reason of an outage."""

ASK_DOCTOR: Final = "Run mediabus doctor, and see the log of mediabus monitor."


class ClientView(msgspec.Struct, frozen=True, kw_only=True):
    """A client. ``why`` and ``advice`` are about an outage or a warning."""

    name: str
    shown: str
    program: str
    version: str
    reachable: bool
    severity: Severity
    since: datetime.datetime
    why: str | None = None
    advice: str | None = None
    downloads: int = 0


def client_view(status: ClientStatus, downloads: int = 0) -> ClientView:
    """Return a client as a page shows it; ``downloads`` are those under way in it."""
    view = ClientView(
        name=status.client,
        shown=plain(client_text(status.client)),
        program=plain(program_text(status.kind)),
        version=plain(status.version or ""),
        reachable=status.reachable,
        severity="info",
        since=status.since,
        downloads=downloads,
    )
    if not status.reachable:
        return msgspec.structs.replace(
            view,
            severity="error",
            why=reason_text(status.reason or "connection"),
            advice=_advice(status),
        )
    if status.warning:
        return msgspec.structs.replace(view, severity="warning", why=plain(status.warning[:300]))
    return view


def _advice(status: ClientStatus) -> str:
    """Return the message of the client's adapter, which ends in what to do, or general advice."""
    return plain((status.message or "")[:400]) or ADVICE.get(status.reason or "", ASK_DOCTOR)
