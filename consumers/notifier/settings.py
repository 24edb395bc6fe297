"""The settings of the notifier: ``[notifier]``, and a table ``[[notify]]`` for each target."""

import dataclasses
import datetime
import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec

from mediabus.consumers.notifier import durations, signature
from mediabus.consumers.notifier.groups import Group
from mediabus.consumers.notifier.patterns import Pattern
from mediabus.consumers.notifier.rules import Rule, anything
from mediabus.consumers.notifier.schedule import Schedule
from mediabus.consumers.notifier.templates import Template
from mediabus.consumers.notifier.where import where
from mediabus.runtime.settings import NotifierSettings, Settings, SettingsError
from mediabus.runtime.settings_errors import Faults, in_words, wrong
from mediabus.runtime.settings_tables import converted, refuse_twins
from mediabus.runtime.settings_variables import variable_prefix
from mediabus.runtime.text_files import expanded, read_text
from mediabus.runtime.url_policy import Allowed, allowed_hosts
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Severity
from mediabus.schemas.subjects import NOTIFIER_CONSUMERS

T = TypeVar("T")

KINDS: Final = ("url", "webhook", "run")


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[notify]]`` table: where messages go, about which events, and when.

    Exactly one of ``url``, ``webhook`` and ``run`` is given.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """The name in events and commands. The position in the stream belongs to it."""
    url: str | None = None
    """An Apprise URL: a phone, a chat, e-mail. It needs the extra `notify`."""
    webhook: str | None = None
    """An http or https URL that gets the CloudEvent."""
    secret: str | list[str] | None = None
    """The secret that signs webhooks. Two, while you replace one."""
    secret_file: str | None = None
    """A file with the secret, or with two on two lines."""
    tls_ca: str | None = None
    """The authority of the certificate of a webhook, a PEM file."""
    run: str | list[str] | None = None
    """The absolute path of a program, and its arguments."""
    timeout: Annotated[float, msgspec.Meta(gt=0, le=600)] = 20.0
    """Seconds for one attempt."""
    events: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("*",)
    """Event types: `download.failed`, `health.*`, or with a category, `downloads/*`."""
    severity: Severity = "info"
    """The least severity."""
    where: dict[str, Any] | list[dict[str, Any]] | None = None
    """A filter by attributes and data."""
    digest: str | None = None
    """Collects events for so long, `10m`, or until a time of day, `08:00`, into one message."""
    group: Group | None = None
    """One message for each of these. Without `digest`, it collects for 30 s."""
    quiet: str | None = None
    """Hours without messages, in local time: `22:00-07:00`."""
    quiet_until: datetime.datetime | None = None
    """No messages until then."""
    except_: Severity | None = msgspec.field(name="except", default=None)
    """Events of at least this severity are sent in quiet hours, too."""
    hold: str | None = None
    """Holds back an outage for so long, `10m`. If it ends within that time, nothing is sent."""
    rate: str | None = None
    """At most so many messages: `20/h`."""
    template: str | None = None
    """The text of a message, in Jinja2."""
    enabled: bool = True
    """Events wait while the target is not enabled."""

    @property
    def kind(self) -> str:
        """``url``, ``webhook`` or ``run``."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A target with its settings parsed. Two are equal if their settings and secrets are."""

    settings: TargetSettings
    rule: Rule = dataclasses.field(compare=False)
    schedule: Schedule = dataclasses.field(compare=False)
    template: Template = dataclasses.field(compare=False)
    secrets: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name in the settings."""
        return self.settings.name

    @property
    def durable(self) -> str:
        """The name of the JetStream consumer of this target."""
        return durable_of(self.name)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Texts that no log and no event may show, the longest first."""
        texts = {*self.secrets, self.settings.url or "", self.settings.webhook or ""}
        return tuple(sorted(filter(None, texts), key=len, reverse=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotifierConfig:
    """The targets, and how their deliveries are retried. Times in seconds."""

    targets: tuple[Target, ...]
    delays: tuple[float, ...]
    give_up_after: float
    allowed: Allowed


def durable_of(target: str) -> str:
    """Return the name of the JetStream consumer of a target."""
    return f"{NOTIFIER_CONSUMERS}{target}"


def parsed(settings: Settings) -> NotifierConfig | None:
    """Parse the settings of the notifier; None without a table ``[[notify]]``.

    Raises:
        SettingsError: a setting cannot be used; the message names its key or its variable.
    """
    if not settings.notify:
        return None
    faults, allowed = Faults(), Allowed()
    targets: list[Target] = []
    delays: tuple[float, ...] = ()
    give_up_after = 0.0
    for at, table in enumerate(settings.notify):
        with faults.collected():
            targets.append(_target(_Table(f"notify[{at}]", dict(table), os.environ)))
    with faults.collected():
        refuse_twins("notify", targets)
    with faults.collected():
        delays = _delays(settings.notifier)
    with faults.collected():
        give_up_after = _seconds("notifier.give_up_after", settings.notifier.give_up_after)
    with faults.collected():
        allowed = allowed_hosts(settings.notifier.allowed_hosts, setting="notifier.allowed_hosts")
    faults.raise_first()
    return NotifierConfig(
        targets=tuple(targets), delays=delays, give_up_after=give_up_after, allowed=allowed
    )


def _delays(settings: NotifierSettings) -> tuple[float, ...]:
    if not settings.retry_delays:
        raise SettingsError("settings: notifier.retry_delays: it must hold a duration")
    return tuple(_seconds("notifier.retry_delays", text) for text in settings.retry_delays)


def _seconds(key: str, text: str) -> float:
    try:
        return durations.duration(text).total_seconds()
    except ValueError as error:
        raise SettingsError(f"settings: {key}: {error}") from error


class _Table:
    """One ``[[notify]]`` table, with errors that name the key or the variable it came from."""

    def __init__(self, place: str, table: dict[str, Any], environ: Mapping[str, str]) -> None:
        self._place = place
        self._table = table
        self._prefix = variable_prefix(str(table.get("name", "")), "notify")
        self._environ = environ

    def settings(self) -> TargetSettings:
        """Return the typed settings. Raises SettingsError."""
        faults = Faults()
        settings = converted(self._table, TargetSettings, self._explain, faults)
        if settings and sum(getattr(settings, kind) is not None for kind in KINDS) != 1:
            faults.add(self._fault("url", "give exactly one of url, webhook and run"))
        faults.raise_first()
        if settings is None:
            raise AssertionError("a table that cannot be converted has an error")
        return settings

    def _explain(self, key: str, rule: str) -> SettingsError:
        return self._fault(key, in_words(rule, key.partition("[")[0], TargetSettings))

    def parsed(self, key: str, parse: Callable[[Any], T], value: object) -> T:
        """Return a setting that is more than a word. Raises SettingsError."""
        try:
            return parse(value)
        except (ValueError, OSError) as error:
            raise self._fault(key, str(error)) from error

    def _fault(self, key: str, why: str) -> SettingsError:
        return wrong(f"{self._place}.{key}", f"{self._prefix}{key}".upper(), why, self._environ)


def _target(table: _Table) -> Target:
    settings, faults = table.settings(), Faults()
    with faults.collected():
        rule = Rule(
            target=settings.name,
            patterns=table.parsed("events", _patterns, settings.events),
            severity=settings.severity,
            where=table.parsed("where", _where, settings.where),
        )
    with faults.collected():
        schedule = _schedule(table, settings)
    with faults.collected():
        template = table.parsed("template", Template, settings.template)
    with faults.collected():
        secrets = table.parsed("secret", _secrets, settings)
    faults.raise_first()
    return Target(
        settings=settings, rule=rule, schedule=schedule, template=template, secrets=secrets
    )


def _schedule(table: _Table, settings: TargetSettings) -> Schedule:
    return Schedule(
        digest=table.parsed("digest", _optional(_digest), settings.digest),
        group=settings.group,
        quiet=table.parsed("quiet", _optional(durations.hours), settings.quiet),
        quiet_until=settings.quiet_until.astimezone() if settings.quiet_until else None,
        exempt=settings.except_,
        hold=table.parsed("hold", _optional(durations.duration), settings.hold),
        rate=table.parsed("rate", _optional(durations.rate), settings.rate),
    )


def _optional(parse: Callable[[str], T]) -> Callable[[str | None], T | None]:
    return lambda text: None if text is None else parse(text)


def _patterns(texts: tuple[str, ...]) -> tuple[Pattern, ...]:
    return tuple(Pattern.of(text) for text in texts)


def _where(filters: object) -> Callable[[Envelope], bool]:
    return anything if filters is None else where(filters)


def _digest(text: str) -> datetime.timedelta | datetime.time:
    return durations.time_of_day(text) if ":" in text else durations.duration(text)


def _secrets(settings: TargetSettings) -> tuple[str, ...]:
    """Return the secrets of a webhook: from the setting, or from a file with one a line."""
    if settings.secret is not None and settings.secret_file is not None:
        raise ValueError("give either secret or secret_file")
    if settings.webhook is None and (settings.secret or settings.secret_file):
        raise ValueError("only a webhook has a secret")
    if settings.secret_file is not None:
        found = re.split(r"\s+", read_text(expanded(settings.secret_file)).strip())
    else:
        found = [settings.secret] if isinstance(settings.secret, str) else settings.secret or []
    return tuple(signature.checked(secret) for secret in found if secret)
