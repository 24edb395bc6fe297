"""Open the sender of a target."""

import shlex

from mediabus.consumers.notifier.settings import TargetSettings
from mediabus.consumers.notifier.targets.apprise_url import AppriseUrl
from mediabus.consumers.notifier.targets.port import Sender
from mediabus.consumers.notifier.targets.program import Program
from mediabus.consumers.notifier.targets.webhook import Webhook
from mediabus.runtime.settings import SettingsError
from mediabus.runtime.url_policy import Allowed


def open_sender(settings: TargetSettings, secrets: tuple[str, ...], allowed: Allowed) -> Sender:
    """Return the sender of a target. It connects when it sends.

    Raises:
        SettingsError: the target can never get a message.
    """
    try:
        return _sender(settings, secrets, allowed)
    except (ValueError, OSError) as error:
        raise SettingsError(f"settings: notify {settings.name!r}: {error}") from error


def _sender(settings: TargetSettings, secrets: tuple[str, ...], allowed: Allowed) -> Sender:
    if settings.webhook is not None:
        return Webhook(
            settings.webhook,
            secrets=secrets,
            allowed=allowed,
            timeout=settings.timeout,
            tls_ca=settings.tls_ca,
        )
    if settings.run is not None:
        command = shlex.split(settings.run) if isinstance(settings.run, str) else settings.run
        return Program(command, timeout=settings.timeout)
    return AppriseUrl(settings.url or "", timeout=settings.timeout)
