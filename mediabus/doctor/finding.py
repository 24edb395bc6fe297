"""The result of one check of `mediabus doctor`."""

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check: its subject, what was found and, for a problem, what to do."""

    name: str
    ok: bool
    found: str
    advice: str | None = None
