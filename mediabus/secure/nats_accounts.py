"""Write the accounts of nats.conf: one that holds the streams, and one for each key."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from mediabus.runtime.nats.account import KEY_ACCOUNTS, STREAMS_ACCOUNT, USER_INFO
from mediabus.runtime.nats.credentials import INBOX
from mediabus.secure.nats_roles import (
    SERVICE_HEARS,
    SERVICE_PUBLISHES,
    Asked,
    Limits,
    Role,
)

ANSWERS: Final = 'allow_responses: {max: 100, expires: "2m"}'
"""A process replies to $SRV.INFO once for each service that it runs."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key: its name, its public key, its rights, and its limits."""

    name: str
    public_key: str
    role: Role
    limits: Limits

    @property
    def account(self) -> str:
        return f"{KEY_ACCOUNTS}{self.name}"


def accounts(service_key: str, keys: Sequence[Key]) -> str:
    """Return all accounts in the syntax of nats.conf."""
    return "".join((_streams_account(service_key, keys), *(_account(key, keys) for key in keys)))


def _streams_account(service_key: str, keys: Sequence[Key]) -> str:
    return _block(
        f'"{STREAMS_ACCOUNT}"',
        "# The streams. Only `mediabus service` logs in to this account.",
        "jetstream: enabled",
        _user(service_key, SERVICE_PUBLISHES, SERVICE_HEARS, answers=True),
        *_exports(STREAMS_ACCOUNT, keys),
    )


def _account(key: Key, keys: Sequence[Key]) -> str:
    limits = key.limits
    publishes = [asked.subject for asked in key.role.asks]
    hears = [*key.role.hears, *key.role.serves]
    return _block(
        f'"{key.account}"',
        f"# {key.role.what}",
        f"limits {{max_connections: {limits.connections}, "
        f"max_subscriptions: {limits.subscriptions}, max_payload: {limits.payload}, "
        "max_leafnodes: 0}",
        _user(
            key.public_key,
            publishes,
            hears,
            answers=bool(key.role.serves),
            denied=key.role.denied,
        ),
        *_exports(key.account, keys),
        _list("imports", (*map(_imported, key.role.asks), *map(_heard, key.role.hears))),
    )


def _user(
    public_key: str,
    publishes: Iterable[str],
    hears: Iterable[str],
    *,
    answers: bool,
    denied: Iterable[str] = (),
) -> str:
    allowed = [f'"{subject}"' for subject in dict.fromkeys((*publishes, USER_INFO))]
    heard = [f'"{subject}"' for subject in (f"{INBOX}.{public_key}.>", *hears)]
    permissions = _block(
        "permissions",
        _publish(allowed, [f'"{subject}"' for subject in denied]),
        _list("subscribe", heard),
        *([ANSWERS] if answers else []),
    )
    return "users: [\n" + _indented(f"{{\n  nkey: {public_key}\n{_indented(permissions)}}}\n") + "]"


def _publish(allowed: list[str], denied: list[str]) -> str:
    if not denied:
        return _list("publish", allowed)
    return _block("publish", _list("allow", allowed), _list("deny", denied)).rstrip("\n")


def _exports(account: str, keys: Sequence[Key]) -> list[str]:
    """Return the exports of an account: each subject, and the accounts that may import it."""
    requests: dict[tuple[str, bool], list[str]] = {}
    streams: dict[str, list[str]] = {}
    for key in keys:
        for asked in key.role.asks:
            if asked.account == account:
                requests.setdefault((asked.exported, asked.streamed), []).append(key.account)
        for subject in key.role.hears if account == STREAMS_ACCOUNT else ():
            streams.setdefault(subject, []).append(key.account)
    lines = [
        f'{{service: "{subject}", accounts: {_names(users)}{_replies(streamed=streamed)}}}'
        for (subject, streamed), users in sorted(requests.items())
    ]
    lines += [
        f'{{stream: "{subject}", accounts: {_names(users)}}}'
        for subject, users in sorted(streams.items())
    ]
    return [_list("exports", lines)] if lines else []


def _replies(*, streamed: bool) -> str:
    return ", response_type: stream" if streamed else ""


def _names(names: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in dict.fromkeys(names)) + "]"


def _imported(asked: Asked) -> str:
    source = f'{{account: "{asked.account}", subject: "{asked.exported}"}}'
    renamed = f', to: "{asked.subject}"' if asked.subject != asked.exported else ""
    return f"{{service: {source}{renamed}}}"


def _heard(subject: str) -> str:
    return f'{{stream: {{account: "{STREAMS_ACCOUNT}", subject: "{subject}"}}}}'


def _list(name: str, items: Iterable[str]) -> str:
    return f"{name}: [\n" + "".join(f"  {item}\n" for item in items) + "]"


def _block(name: str, *parts: str) -> str:
    return f"{name} {{\n" + "".join(_indented(part) for part in parts) + "}\n"


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
