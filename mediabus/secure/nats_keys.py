"""The keys in the folder of `mediabus secure`: one file each, whose name decides its role."""

import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import click
import nkeys

from mediabus.runtime.nats.credentials import public_key_of
from mediabus.runtime.private_files import write_private
from mediabus.schemas.identity import Actor
from mediabus.schemas.subjects import token
from mediabus.secure.nats_accounts import Key
from mediabus.secure.nats_roles import (
    ACTS,
    LOOKS,
    PROCESS,
    Limits,
    Role,
    acting,
    consuming,
    looking,
)
from mediabus.wiring.registry import PROCESSES, SERVICE, Process, imported

OTHERS: Final = [process for process in PROCESSES if process is not SERVICE]
"""The processes whose keys have their own accounts. The service uses the streams' account."""

ALWAYS: Final = (SERVICE.key, *(process.key for process in OTHERS), "publisher", "viewer")
"""The keys that every installation has."""

KINDS: Final = ("user", "program", "viewer", "consumer")
"""Keys that are created by an option of the command, in files named ``<kind>-<name>.nk``."""

MAX_NAME: Final = 64
"""Characters in the name of a user, program, viewer or consumer."""

CONSUMER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
TAKEN: Final = {"ingest", *(process.key for process in PROCESSES)}
"""Names that a consumer cannot have, because mediabus uses them."""


def file_name(kind: str, name: str) -> str:
    """Return the file name of a key. Raises BadParameter for an invalid name."""
    usable = name.isprintable() and 0 < len(name) <= MAX_NAME and len(token(name)) <= 2 * MAX_NAME
    if kind == "consumer":
        usable = usable and bool(CONSUMER_NAME.fullmatch(name)) and name not in TAKEN
    if not usable:
        rule = f"1 to {MAX_NAME} printable characters"
        if kind == "consumer":
            rule = "letters, digits, _ and -, but not " + ", ".join(sorted(TAKEN))
        raise click.BadParameter(f"{name!r} cannot be a name: use {rule}", param_hint=f"--{kind}")
    return f"{kind}-{token(name)}.nk"


def make_key(path: Path) -> None:
    """Create a key in a file, unless the file exists."""
    if not path.exists():
        seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
        write_private(path, f"{seed.decode()}\n")


def keys_in(directory: Path) -> list[Key]:
    """Return the keys that have a file in the folder, except the service's."""
    names = sorted(path.stem for path in directory.glob("*.nk"))
    return [_key(directory, name) for name in names if name != SERVICE.key]


def _key(directory: Path, name: str) -> Key:
    role, limits = _role(name)
    public_key = public_key_of(str(directory / f"{name}.nk"))
    return Key(name=name, public_key=public_key, role=role, limits=limits)


def _role(name: str) -> tuple[Role, Limits]:
    if name in FIXED:
        return FIXED[name]
    kind, _, encoded = name.partition("-")
    owner = unquote(encoded)
    if owner and kind in NAMED:
        make, limits = NAMED[kind]
        return make(owner), limits
    raise click.ClickException(
        f"{name}.nk is not a key that `mediabus secure` creates: move it elsewhere. Keys are "
        f"named {', '.join(ALWAYS)}, or {', '.join(f'{kind}-NAME' for kind in KINDS)}"
    )


def _user(owner: str) -> Role:
    return acting(f"the user {owner}", Actor("user", owner), looks=True)


def _program(owner: str) -> Role:
    return acting(f"the program {owner}", Actor("job", owner))


def _role_of(process: Process) -> Role:
    role: Role = imported(process.role) if process.role else consuming(process.key)
    return role


FIXED: Final = {
    **{process.key: (_role_of(process), PROCESS) for process in OTHERS},
    "publisher": (_program("publisher"), ACTS),
    "viewer": (looking("people and programs that only read"), LOOKS),
}
NAMED: Final[dict[str, tuple[Callable[[str], Role], Limits]]] = {
    "user": (_user, ACTS),
    "program": (_program, ACTS),
    "viewer": (looking, LOOKS),
    "consumer": (consuming, ACTS),
}
