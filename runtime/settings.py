"""The settings: the tables of one TOML file, with an environment variable for each key."""

from typing import Annotated, Any, Final, Literal, get_args

import msgspec

NAMED_TABLES: Final = ("apps", "clients", "notify")
"""The arrays of tables, each table with a name."""

Bytes = Annotated[int, msgspec.Meta(ge=1)]
StreamName = Literal["EVENTS", "DEAD_LETTERS", "REPLAY", "download_status"]
StreamBytes = Annotated[
    dict[StreamName, Bytes],
    msgspec.Meta(extra_json_schema={"propertyNames": {"enum": list(get_args(StreamName))}}),
]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
"""At most a year. No timer can wait for TOML's ``inf``."""


class SettingsError(Exception):
    """The settings cannot be used. The message names the key and the values it accepts.

    >>> try:
    ...     async with mediabus.connect(config="no-such-file.toml") as bus:
    ...         pass
    ... except mediabus.SettingsError as error:
    ...     print(error)
    """

    further: "tuple[SettingsError, ...]" = ()
    """The other errors that the same parser found."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file.

    The docstring of each key is its description in the JSON Schema of the settings.
    """


class NatsSettings(Section, frozen=True):
    """The table ``[nats]``: the servers, and what JetStream keeps."""

    url: str | None = None
    """One server or several, separated by commas. Without it, `mediabus up` starts one."""
    credentials: str | None = None
    """A file with a JWT and a seed, as `nsc` writes it."""
    user: str | None = None
    """The user, if the URL does not contain it."""
    password: str | None = None
    """The password, if the URL does not contain it."""
    nkey_seed_file: str | None = None
    """The file with the key of this process, from `mediabus secure`."""
    tls_ca: str | None = None
    """The authority of the server's certificate, a PEM file. A server without TLS is refused."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    """How many servers of a cluster store each event."""
    max_age_days: Annotated[float, msgspec.Meta(gt=0, le=36_500)] = 30.0
    """How many days the stream keeps an event for replay."""
    max_bytes: Bytes | StreamBytes | None = None
    """The limit of every stream in bytes, or of each stream that the table names."""


class DatabaseSettings(Section, frozen=True):
    """The table ``[database]``: PostgreSQL."""

    url: str | None = None
    """A connection URL of libpq. Without it, `mediabus up` starts PostgreSQL."""
    password: str | None = None
    """The password, if the URL does not contain it."""
    events_url: str | None = None
    """A second database, which stores the events apart from the downloads."""
    pool_size: Annotated[int, msgspec.Meta(ge=2, le=100)] = 10
    """Connections of a process."""


class LogSettings(Section, frozen=True):
    """The table ``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level of lines in the log."""
    format: Literal["auto", "console", "json"] = "auto"
    """With `auto`, the format is `console` on a terminal and `json` elsewhere."""


class HttpSettings(Section, frozen=True):
    """The table ``[http]``: the address of the pages, ``/livez``, ``/readyz`` and ``/metrics``."""

    host: str = "127.0.0.1"
    """The address to listen on. `0.0.0.0` opens the port to other machines."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    """The port. Without it, each process has its own, from 8321. Port 0 is any free one."""


class MonitorSettings(Section, frozen=True):
    """The table ``[monitor]``. All times are in seconds."""

    unreachable_after: Seconds = 30.0
    """How long a client must fail to answer before an event reports it."""
    removed_after: Seconds = 5.0
    """How long a download must be missing, over at least two polls, to count as removed."""
    stalled_after: Seconds = 3600.0
    """How long a download must transfer nothing to count as stalled."""
    discovered_after: Seconds = 10.0
    """How long an untracked download must be in the client before an event reports it."""


class DownloadsSettings(Section, frozen=True):
    """The table ``[downloads]``."""

    allowed_hosts: list[str] = []
    """Private hosts, such as an indexer at home, and networks that URLs to download may use."""


class PersisterSettings(Section, frozen=True):
    """The table ``[persister]``."""

    batch: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    """The most events in one write."""
    writers: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    """How many writes run at once."""
    keep_months: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Events older than this many months are dropped. Without it, all events are kept."""


class IngestSettings(Section, frozen=True):
    """The table ``[ingest]``: events and webhooks that arrive over HTTP."""

    token: Annotated[str, msgspec.Meta(min_length=16, max_length=255)] | None = None
    """The secret that senders to `POST /events` present. Without it, that is off."""
    url: str | None = None
    """The address of this port as applications reach it, for `mediabus apps connect`."""


class NotifierSettings(Section, frozen=True):
    """The table ``[notifier]``: how messages to all targets are retried."""

    retry_delays: list[str] = msgspec.field(
        default_factory=lambda: ["5s", "30s", "5m", "30m", "2h", "6h"]
    )
    """Pauses after the failures of a target in succession. The last one repeats."""
    give_up_after: str = "3d"
    """How long an event is retried before it becomes a dead letter."""
    allowed_hosts: list[str] = []
    """Private hosts and networks to which webhooks may lead, besides the internet."""


class WebUser(Section, frozen=True):
    """A table ``[[web.users]]``: a person who may sign in to the pages."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """The name at the login."""
    password: Annotated[str, msgspec.Meta(min_length=8, max_length=255)] | None = None
    """The password. Without it, only a trusted proxy signs this user in."""
    role: Literal["admin", "viewer"] = "viewer"
    """A viewer changes nothing."""


class WebSettings(Section, frozen=True):
    """The table ``[web]``: the pages for a browser."""

    base_path: Annotated[str, msgspec.Meta(pattern=r"^(/[A-Za-z0-9._~-]+)*/?$")] = ""
    """The path of the pages behind a proxy, such as `/mediabus`."""
    auth: Literal["password", "none"] = "password"
    """With `none`, no page asks for a password. `http.host` must then be loopback."""
    password: Annotated[str, msgspec.Meta(min_length=8, max_length=255)] | None = None
    """The password of the user `admin`. Without it, one is generated."""
    users: list[WebUser] = []
    """Other users."""
    trusted_proxies: list[str] = []
    """Addresses and networks of proxies whose header `Remote-User` names the user."""
    proxy_role: Literal["admin", "viewer"] = "admin"
    """The role of a user that a proxy names, unless `users` has that name."""
    session_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 30.0
    """Days after which a login ends."""


class MqttSettings(Section, frozen=True):
    """The table ``[mqtt]``: the broker of Home Assistant."""

    url: str | None = None
    """`mqtt://HOST:PORT`, or `mqtts://HOST:PORT` with TLS. Without it, nothing is published."""
    user: str | None = None
    """The user at the broker."""
    password: str | None = None
    """The password at the broker."""
    password_file: str | None = None
    """A file with the password."""
    tls_ca: str | None = None
    """The authority of the broker's certificate, a PEM file."""
    topic: str = "mediabus"
    """What all topics of mediabus begin with."""
    discovery_prefix: str = "homeassistant"
    """The topic below which Home Assistant looks for devices."""
    speed_interval: Seconds = 10.0
    """Seconds between two values of a speed."""


class Settings(Section, frozen=True):
    """All settings.

    ``apps``, ``clients`` and ``notify`` are not parsed here, because the runtime does not know
    their kinds.
    """

    data_dir: str = "mediabus-data"
    """The directory in which `mediabus up` keeps all data."""
    nats: NatsSettings = NatsSettings()
    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()
    http: HttpSettings = HttpSettings()
    downloads: DownloadsSettings = DownloadsSettings()
    monitor: MonitorSettings = MonitorSettings()
    persister: PersisterSettings = PersisterSettings()
    ingest: IngestSettings = IngestSettings()
    notifier: NotifierSettings = NotifierSettings()
    web: WebSettings = WebSettings()
    mqtt: MqttSettings = MqttSettings()
    apps: list[dict[str, Any]] = []
    clients: list[dict[str, Any]] = []
    notify: list[dict[str, Any]] = []
