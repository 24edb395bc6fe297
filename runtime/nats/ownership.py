"""Which installation a stream belongs to. The name alone does not prove that.

Each stream has the id of its installation in its metadata; the id itself is in PostgreSQL. Streams
of 0.1.0 have no id: they are recognized by their description and get the id once.
"""

from typing import Final

from nats.js.api import StreamConfig

from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DOWNLOAD_STATUS_STREAM,
    EVENTS_STREAM,
    REPLAY_STREAM,
)

INSTALLATION: Final = "mediabus.installation"
"""The key in a stream's metadata."""

DESCRIPTIONS: Final = {
    EVENTS_STREAM: "mediabus: everything that happened",
    DEAD_LETTERS_STREAM: "mediabus: what no consumer could use, and why",
    REPLAY_STREAM: "mediabus: old events, fed to one consumer once more",
    DOWNLOAD_STATUS_STREAM: "mediabus: what the download clients say right now",
}
"""The descriptions that 0.1.0 wrote. Do not change them."""


class NotOurs(Exception):
    """A stream with the name of a mediabus stream belongs to another program or installation."""


def installation_of(config: StreamConfig) -> str | None:
    """Return the id of the installation that a stream belongs to, or None if it has none."""
    return (config.metadata or {}).get(INSTALLATION)


def is_of_mediabus(config: StreamConfig) -> bool:
    """Return whether any mediabus installation created the stream."""
    described = config.description == DESCRIPTIONS.get(config.name or "")
    return installation_of(config) is not None or described


def check_owner(config: StreamConfig, installation: str | None) -> None:
    """Raise NotOurs if a stream belongs to another program or another installation.

    ``installation`` is the id of this installation. None, in a command that does not know it,
    accepts any.
    """
    if not is_of_mediabus(config):
        raise NotOurs(
            f"NATS has a stream {config.name} that mediabus did not create (description "
            f"{config.description or ''!r}, subjects {config.subjects or []}). mediabus does not "
            "change it: rename it, or give mediabus a NATS account or server of its own "
            "(MEDIABUS_NATS_URL)"
        )
    theirs = installation_of(config)
    if theirs and installation and theirs != installation:
        raise NotOurs(
            f"the stream {config.name} belongs to another installation of mediabus, {theirs}; this "
            f"installation, according to its database, is {installation}. Two installations cannot "
            "share a NATS account: give this one an account or server of its own "
            "(MEDIABUS_NATS_URL). If this database replaces the other one, change the id in its "
            "table mediabus_installation to the id of the stream"
        )


def mark_of(config: StreamConfig, installation: str | None) -> dict[str, str]:
    """Return the metadata of a stream with the installation id added.

    The server keeps metadata of its own there, so the rest is left as it is.
    """
    kept = dict(config.metadata or {})
    return kept | {INSTALLATION: installation} if installation else kept
