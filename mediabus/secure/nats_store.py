"""Move the streams of mediabus 0.1.0, which used no accounts, to the account of the streams."""

from pathlib import Path
from typing import Final

import click

from mediabus.runtime.nats.account import STREAMS_ACCOUNT

PROCESSES: Final = Path("/proc")
GLOBAL_ACCOUNT: Final = "$G"
"""The account that nats-server uses when none is configured."""


def move_streams(store: Path, config: Path) -> None:
    """Move the streams of a server without accounts to the account of the streams.

    JetStream keeps the streams of each account in a folder with the name of the account. Raises
    ClickException if the server runs, or if both accounts have streams.
    """
    old = store / "jetstream" / GLOBAL_ACCOUNT
    new = old.with_name(STREAMS_ACCOUNT)
    if not (old / "streams").is_dir():
        if not store.exists() and _is_without_accounts(config):
            click.echo(_step_elsewhere(store))
        return
    if new.exists():
        raise click.ClickException(
            f"{old} has streams, and so has {new}. Nothing was changed. Stop nats-server, move the "
            "folder that you do not want elsewhere, and run this command again"
        )
    if not PROCESSES.is_dir() or _is_in_use(old, config):
        raise click.ClickException(
            f"nats-server uses {old}, which has to be renamed to {new.name}. Nothing was changed. "
            "Stop nats-server, run this command again, and start nats-server"
        )
    old.rename(new)
    click.echo(f"{old} is now {new}: the streams now have their own account.")


def _is_without_accounts(config: Path) -> bool:
    return config.exists() and "accounts {" not in config.read_text(encoding="utf-8")


def _step_elsewhere(place: Path) -> str:
    return f"""\
The streams now have their own account. Once, while nats-server is stopped, rename the
folder {place}/jetstream/{GLOBAL_ACCOUNT} to {place}/jetstream/{STREAMS_ACCOUNT}."""


def _is_in_use(folder: Path, config: Path) -> bool:
    """Return whether a process has files of the folder open, or uses the configuration."""
    places = (str(folder.resolve()), str(config.resolve()), str(config))
    return any(
        _opens(process, places[0]) or _names(process, places[1:])
        for process in PROCESSES.glob("[0-9]*")
    )


def _opens(process: Path, folder: str) -> bool:
    try:
        return any(str(file.readlink()).startswith(f"{folder}/") for file in process.glob("fd/*"))
    except OSError:  # it ended, or belongs to another user
        return False


def _names(process: Path, paths: tuple[str, ...]) -> bool:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return words[0].endswith("nats-server") and any(path in words for path in paths)
