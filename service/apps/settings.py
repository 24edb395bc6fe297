"""What the settings of every application have in common."""

import datetime
import hashlib
import hmac
from typing import Annotated, Any, ClassVar

import msgspec

from mediabus.schemas.events.media import MediaType
from mediabus.service.apps.port import Webhook
from mediabus.service.clients.http import base_url, trusting
from mediabus.service.clients.settings import Name

Token = Annotated[str, msgspec.Meta(min_length=16, max_length=255, pattern=r"^[A-Za-z0-9._~-]+$")]
"""It is a part of a URL, so it has only characters that need no encoding."""


class AppSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """One ``[[apps]]`` table. Times are in seconds."""

    program: ClassVar[str]
    """The name of the application, for messages."""
    status: ClassVar[str] = "system/status"
    """What has the version of the application, below the API's root."""
    has_history: ClassVar[bool] = True
    """Whether it has a history and health checks."""
    library: ClassVar[str | None] = None
    """The list of its series or movies, below the API's root."""
    media_type: ClassVar[MediaType] = "movie"
    """What the library has."""

    api: ClassVar[str]
    """The path of the API, such as ``api/v3``."""

    name: Name
    """The name in events, and in the URL of the webhook."""
    url: str
    """Where mediabus reaches the application, with its path if it has one."""
    api_key: str = ""
    """The key of the API. The application shows it in its settings."""
    tls_ca: str | None = None
    """The authority of an https URL, a PEM file, if this machine does not trust it."""
    timeout: Annotated[float, msgspec.Meta(gt=0, le=3_600)] = 15.0
    """Seconds for one call."""
    poll: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    """Seconds between two reads of the history, if no webhook arrives."""
    import_since: datetime.date | None = None
    """The first day of the history to read. Without it, the history is read from the moment at
    which mediabus first sees the application."""
    webhook_token: Token | None = None
    """The secret in the URL of the webhook. Without it, it is derived from the API key."""
    import_quiet: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 300.0
    """Seconds without another imported file after which the import of a download counts as
    finished, unless all that was grabbed has been imported."""
    health_hold: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 300.0
    """Seconds for which a health check must fail, or succeed again, before that is an event."""
    sweep: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 3600.0
    """Seconds between two reads of the whole library."""

    def __post_init__(self) -> None:
        base_url(self.url)
        if self.tls_ca:
            trusting(self.tls_ca)
        if not self.api_key:
            raise ValueError(f"api_key must be given: {self.program} shows it under Settings")

    @property
    def kind(self) -> str:
        """The name of the kind in the settings."""
        return str(self.__struct_config__.tag)

    @property
    def token(self) -> str:
        """The secret in the URL of the webhook."""
        if self.webhook_token:
            return self.webhook_token
        message = f"mediabus webhook {self.name}".encode()
        return hmac.new(self.api_key.encode(), message, hashlib.sha256).hexdigest()[:40]

    def read_webhook(self, body: dict[str, Any]) -> Webhook:
        """Return what a webhook says. Raises UnknownWebhook."""
        raise TypeError(f"{type(self).__name__} cannot read {len(body)} fields")
