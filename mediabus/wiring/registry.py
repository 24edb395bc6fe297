"""The processes of mediabus, one entry each.

The command line, `mediabus up`, the keys of `mediabus secure`, `mediabus doctor` and the tests
read this list. Importing it is fast, because every help page does.
"""

import importlib
from typing import Any, Final, NamedTuple


class Process(NamedTuple):
    """A process: the command that runs it, and what it does in `mediabus up`.

    ``run`` and ``config`` are ``module:function``, imported when the process starts.
    """

    name: str
    """The command."""

    summary: str
    description: str
    examples: tuple[str, ...]

    port: int
    """The default port of its HTTP server."""

    run: str
    """``async (work: Work[C]) -> None``, runs until cancelled."""

    config: str = ""
    """``(settings: Settings) -> C | None``: parses the settings of the process. Raises
    SettingsError. Returns None if the process has nothing to do. Without it, ``C`` is None."""

    reloads: tuple[str, ...] = ()
    """The arrays of tables of the settings whose changes it follows without a restart."""

    check: str = ""
    """``async (config: C) -> None``: raises SettingsError for what only opening it shows."""

    absent: str = ""
    """What to add to the settings if ``config`` returns None."""

    paths: tuple[str, ...] = ()
    """What it serves on its port besides its health. A path that ends in ``/`` is a prefix."""

    command: str = "mediabus.commands.daemons"
    """The module of its command. A process with subcommands has its own module."""

    needs_database: bool = True
    in_up: bool = True
    """Whether `mediabus up` runs it."""

    answers: tuple[str, ...] = ()
    """An operation of each of its NATS services, by which `mediabus doctor` finds it."""

    own_key: str = ""
    """The name of its key, if that is not ``name``."""

    role: str = ""
    """``module:ROLE``, the rights of its key. Without it, those of a consumer of this name."""

    @property
    def key(self) -> str:
        """The name of its key in `mediabus secure`."""
        return self.own_key or self.name


SERVICE: Final = Process(
    name="service",
    summary="Serve the operations on media and downloads, and relay events.",
    description="The operations are NATS services. The relay publishes the events of the outbox. "
    "Events and webhooks arrive over HTTP at /events and /hooks. "
    "You can run several of these processes: one relays, the others stand by.",
    examples=("mediabus service", "mediabus --config mediabus.toml service"),
    port=8321,
    run="mediabus.wiring.parts:serve",
    config="mediabus.service.config:config_of",
    reloads=("apps", "clients", "notify"),
    paths=("/events", "/hooks/"),
    answers=("media.create", "downloads.initiate", "apps.list"),
)

MONITOR: Final = Process(
    name="monitor",
    summary="Watch the download clients and publish what changes.",
    description="The monitor polls every enabled client and publishes an event for each "
    "transition of a download.",
    examples=("mediabus monitor", "mediabus --config mediabus.toml monitor"),
    port=8322,
    run="mediabus.wiring.parts:watch",
    config="mediabus.service.config:config_of",
    reloads=("clients",),
    role="mediabus.secure.nats_roles:MONITOR",
)

PERSIST: Final = Process(
    name="persist",
    summary="Store every event in PostgreSQL, and serve the history.",
    description="The history answers `mediabus history`. You can run several of these processes: "
    "they share the events.",
    examples=("mediabus persist", "MEDIABUS_PERSISTER_WRITERS=4 mediabus persist"),
    port=8323,
    run="mediabus.wiring.parts:store",
    answers=("history.list",),
    own_key="persister",
    role="mediabus.secure.nats_roles:PERSIST",
)

NOTIFY: Final = Process(
    name="notify",
    summary="Send messages about events to the targets of [[notify]].",
    description="A target is an Apprise URL, a webhook or a program. Each has its own position in "
    "the stream, so one that is away delays no other. You can run several of these processes: they "
    "share the targets.",
    examples=(
        "mediabus notify",
        "mediabus notify list              the targets, and what waits for them",
        "mediabus notify test phone        send a test message now",
        "mediabus notify log phone         show the last deliveries",
        "mediabus notify resend phone ID   send the message about an event again",
    ),
    port=8324,
    run="mediabus.consumers.notifier.run:serve_targets",
    config="mediabus.consumers.notifier.settings:parsed",
    reloads=("notify",),
    check="mediabus.consumers.notifier.run:check_targets",
    absent="add [[notify]] to the settings (docs/notifications.md)",
    command="mediabus.commands.notify",
    needs_database=False,
    role="mediabus.secure.nats_roles:NOTIFY",
)


WEB: Final = Process(
    name="web",
    summary="Serve the pages for a browser.",
    description="The pages show what happens now, all events and their stories, and what needs "
    "you. They use NATS only. You can run several of these processes behind a proxy.",
    examples=("mediabus web", "MEDIABUS_HTTP_HOST=0.0.0.0 mediabus web"),
    port=8329,
    run="mediabus.web.run:run",
    config="mediabus.web.config:config_of",
    reloads=("clients",),
    needs_database=False,
    role="mediabus.secure.nats_roles:WEB",
)

MQTT: Final = Process(
    name="mqtt",
    summary="Show mediabus in Home Assistant, over MQTT.",
    description="Home Assistant discovers the download clients, the state of the downloads and the "
    "events, and can pause and resume. It needs mediabus[mqtt].",
    examples=(
        "mediabus mqtt",
        "MEDIABUS_MQTT_URL=mqtt://homeassistant.local:1883 mediabus mqtt",
    ),
    port=8325,
    run="mediabus.wiring.home_assistant:run",
    config="mediabus.consumers.home_assistant.settings:parsed",
    absent="add [mqtt] with the url of the broker (docs/home-assistant.md)",
    needs_database=False,
    role="mediabus.secure.nats_roles:MQTT",
)

PROCESSES: Final = (SERVICE, MONITOR, PERSIST, NOTIFY, WEB, MQTT)


def imported(path: str) -> Any:  # noqa: ANN401 - a function or a role
    """Import what a ``module:name`` of the registry names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
