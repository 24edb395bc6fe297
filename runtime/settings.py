"""The settings: the tables of one TOML file, with an environment variable for each key."""

from typing import Annotated, Any, Final, Literal

import msgspec

NAMED_TABLES: Final = ("apps", "clients", "notify")
"""The arrays of tables, each table with a name."""

Bytes = Annotated[int, msgspec.Meta(ge=1)]
StreamName = Literal["EVENTS", "DEAD_LETTERS", "REPLAY", "download_status"]
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


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file."""


class NatsSettings(Section, frozen=True):
    """The table ``[nats]``.

    ``url`` may hold several servers, separated by commas. Without it, ``mediabus up`` starts a
    server, and the other commands connect to that server. ``nkey_seed_file`` holds the key that
    identifies this process. ``tls_ca`` is the certificate of the authority that signed the server's
    certificate: with it, a server without TLS is refused. ``max_age_days`` is how long the stream
    keeps an event for replay. ``replicas`` is how many servers of a cluster store each event.
    ``max_bytes`` limits every stream, or each stream that it names.
    """

    url: str | None = None
    credentials: str | None = None
    user: str | None = None
    password: str | None = None
    nkey_seed_file: str | None = None
    tls_ca: str | None = None
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    max_age_days: Annotated[float, msgspec.Meta(gt=0, le=36_500)] = 30.0
    max_bytes: Bytes | dict[StreamName, Bytes] | None = None


class DatabaseSettings(Section, frozen=True):
    """The table ``[database]``.

    ``url`` is a connection URL of libpq. Without it, ``mediabus up`` starts a server.
    ``events_url`` names a second database, which stores the events apart from the downloads.
    """

    url: str | None = None
    password: str | None = None
    events_url: str | None = None
    pool_size: Annotated[int, msgspec.Meta(ge=2, le=100)] = 10


class LogSettings(Section, frozen=True):
    """The table ``[log]``.

    With ``format = "auto"``, the format is ``console`` on a terminal and ``json`` elsewhere.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class HttpSettings(Section, frozen=True):
    """The table ``[http]``: the address of ``/livez``, ``/readyz`` and ``/metrics``.

    Port 0 selects a free port.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None


class MonitorSettings(Section, frozen=True):
    """The table ``[monitor]``, in seconds.

    ``unreachable_after`` is how long a client must fail to answer before an event reports it.
    ``removed_after`` is how long a download must be missing, over at least two polls, before it
    counts as removed. ``stalled_after`` is how long a download must transfer nothing before it
    counts as stalled. ``discovered_after`` is how long an untracked download must be in the client
    before an event reports it.
    """

    unreachable_after: Seconds = 30.0
    removed_after: Seconds = 5.0
    stalled_after: Seconds = 3600.0
    discovered_after: Seconds = 10.0


class DownloadsSettings(Section, frozen=True):
    """The table ``[downloads]``.

    ``allowed_hosts`` lists the private addresses, such as an indexer at home, that the URLs of
    ``downloads.initiate`` may use: hosts, each with a port or for every port, and networks.
    """

    allowed_hosts: list[str] = []


class PersisterSettings(Section, frozen=True):
    """The table ``[persister]``.

    ``batch`` is the most events in one write, ``writers`` is how many writes run at once.
    Events older than ``keep_months`` months are dropped. Without it, all events are kept.
    """

    batch: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    writers: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    keep_months: Annotated[int, msgspec.Meta(ge=1)] | None = None


class IngestSettings(Section, frozen=True):
    """Settings of ``[ingest]``.

    Senders to ``POST /events`` must present ``token``. ``url`` is the address of this port as
    applications reach it, for `mediabus apps connect`.
    """

    token: Annotated[str, msgspec.Meta(min_length=16, max_length=255)] | None = None
    url: str | None = None


class NotifierSettings(Section, frozen=True):
    """Settings of ``[notifier]``.

    ``retry_delays`` are the pauses after the failures of a target in succession; the last one
    repeats. After ``give_up_after`` an event becomes a dead letter. ``allowed_hosts`` are the hosts
    besides the internet to which webhooks may lead.
    """

    retry_delays: list[str] = msgspec.field(
        default_factory=lambda: ["5s", "30s", "5m", "30m", "2h", "6h"]
    )
    give_up_after: str = "3d"
    allowed_hosts: list[str] = []


class WebUser(Section, frozen=True):
    """A table ``[[web.users]]``: a person who may sign in. A viewer changes nothing."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    password: Annotated[str, msgspec.Meta(min_length=8, max_length=255)] | None = None
    role: Literal["admin", "viewer"] = "viewer"


class WebSettings(Section, frozen=True):
    """The table ``[web]``: the pages for a browser.

    ``base_path`` is the path prefix of a proxy. ``password`` is that of the user ``admin``; without
    it, one is generated. A user of a proxy in ``trusted_proxies``, named by ``Remote-User``, has
    the role ``proxy_role`` unless ``users`` has that name. A session ends after ``session_days``.
    """

    base_path: Annotated[str, msgspec.Meta(pattern=r"^(/[A-Za-z0-9._~-]+)*/?$")] = ""
    auth: Literal["password", "none"] = "password"
    password: Annotated[str, msgspec.Meta(min_length=8, max_length=255)] | None = None
    users: list[WebUser] = []
    trusted_proxies: list[str] = []
    proxy_role: Literal["admin", "viewer"] = "admin"
    session_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 30.0


class MqttSettings(Section, frozen=True):
    """The table ``[mqtt]``: the broker of Home Assistant.

    ``url`` is ``mqtt://HOST:PORT``, or ``mqtts://HOST:PORT`` with TLS. All topics of mediabus begin
    with ``topic``. Speeds are published at most every ``speed_interval`` seconds.
    """

    url: str | None = None
    user: str | None = None
    password: str | None = None
    password_file: str | None = None
    tls_ca: str | None = None
    topic: str = "mediabus"
    discovery_prefix: str = "homeassistant"
    speed_interval: Seconds = 10.0


class Settings(Section, frozen=True):
    """All settings.

    ``apps``, ``clients`` and ``notify`` are not parsed here, because the runtime does not know
    their kinds.
    """

    data_dir: str = "mediabus-data"
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
    apps: list[dict[str, Any]] = []
    mqtt: MqttSettings = MqttSettings()
    clients: list[dict[str, Any]] = []
    notify: list[dict[str, Any]] = []
