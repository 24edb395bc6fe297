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
from mediabus.runtime.settings_errors import in_words, wrong
from mediabus.runtime.settings_variables import variable_prefix
from mediabus.runtime.text_files import expanded, read_text
from mediabus.runtime.url_policy import Allowed, allowed_hosts
from mediabus.runtime.validation_errors import place_and_rule
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Severity
from mediabus.schemas.subjects import NOTIFIER_CONSUMERS

T = TypeVar("T")

KINDS: Final = ("url", "webhook", "run")


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[notify]]`` table: where messages go, about which events, and when.

    Exactly one of ``url`` (an Apprise URL), ``webhook`` (an http(s) URL) and ``run`` (a program and
    its arguments) is given. ``timeout`` is in seconds.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    url: str | None = None
    webhook: str | None = None
    secret: str | list[str] | None = None
    secret_file: str | None = None
    tls_ca: str | None = None
    run: str | list[str] | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=600)] = 20.0
    events: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("*",)
    severity: Severity = "info"
    where: dict[str, Any] | list[dict[str, Any]] | None = None
    digest: str | None = None
    group: Group | None = None
    quiet: str | None = None
    quiet_until: datetime.datetime | None = None
    except_: Severity | None = msgspec.field(name="except", default=None)
    hold: str | None = None
    rate: str | None = None
    template: str | None = None
    enabled: bool = True

    @property
    def kind(self) -> str:
        """``url``, ``webhook`` or ``run``."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A target with its settings parsed."""

    settings: TargetSettings
    rule: Rule
    schedule: Schedule
    template: Template
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
    targets = [
        _target(_Table(f"notify[{at}]", table, os.environ))
        for at, table in enumerate(settings.notify)
    ]
    prefixes = [variable_prefix(target.name, "notify") for target in targets]
    for target, prefix in zip(targets, prefixes, strict=True):
        if prefixes.count(prefix) > 1:
            raise SettingsError(f"settings: notify: two targets are named {target.name!r}")
    return NotifierConfig(
        targets=tuple(targets),
        delays=_delays(settings.notifier),
        give_up_after=_seconds("notifier.give_up_after", settings.notifier.give_up_after),
        allowed=allowed_hosts(settings.notifier.allowed_hosts, setting="notifier.allowed_hosts"),
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
        try:
            settings = msgspec.convert(self._table, TargetSettings, strict=False)
        except msgspec.ValidationError as error:
            key, rule = place_and_rule(error)
            name = str(key or rule.partition(" ")[0])
            why = in_words(rule, name.partition("[")[0], TargetSettings)
            raise self._fault(name, why) from error
        if sum(getattr(settings, kind) is not None for kind in KINDS) != 1:
            raise self._fault("url", "give exactly one of url, webhook and run")
        return settings

    def parsed(self, key: str, parse: Callable[[Any], T], value: object) -> T:
        """Return a setting that is more than a word. Raises SettingsError."""
        try:
            return parse(value)
        except (ValueError, OSError) as error:
            raise self._fault(key, str(error)) from error

    def _fault(self, key: str, why: str) -> SettingsError:
        return wrong(f"{self._place}.{key}", f"{self._prefix}{key}".upper(), why, self._environ)


def _target(table: _Table) -> Target:
    settings = table.settings()
    rule = Rule(
        target=settings.name,
        patterns=table.parsed("events", _patterns, settings.events),
        severity=settings.severity,
        where=table.parsed("where", _where, settings.where),
    )
    schedule = Schedule(
        digest=table.parsed("digest", _optional(_digest), settings.digest),
        group=settings.group,
        quiet=table.parsed("quiet", _optional(durations.hours), settings.quiet),
        quiet_until=settings.quiet_until.astimezone() if settings.quiet_until else None,
        exempt=settings.except_,
        hold=table.parsed("hold", _optional(durations.duration), settings.hold),
        rate=table.parsed("rate", _optional(durations.rate), settings.rate),
    )
    return Target(
        settings=settings,
        rule=rule,
        schedule=schedule,
        template=table.parsed("template", Template, settings.template),
        secrets=table.parsed("secret", _secrets, settings),
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
