"""Find files with secrets that other users of this machine can read."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

from mediabus.runtime.settings import Settings
from mediabus.runtime.text_files import expanded, read_text

SECRETS: Final = {"password", "secret", "webhook"}
_IN_A_POD: Final = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it. There a Secret is root's and readable by a group that only the pod has."""
TARGETS: Final = "notify"
"""The tables whose URLs hold a token, wherever in the URL it is."""


def exposed(config: str | None, settings: Settings) -> list[str]:
    """Return a warning for each settings file with a password, and each key file, that is exposed.

    Exposed files are readable by other users.
    """
    config = expanded(config) if config else None
    secret = [config] if config and _holds_secrets(tomllib.loads(read_text(config))) else []
    secret += filter(None, (settings.nats.nkey_seed_file, settings.nats.credentials))
    secret += [target["secret_file"] for target in settings.notify if target.get("secret_file")]
    return [
        f"{path} holds secrets and other users can read it: chmod 600 {path}"
        for path in secret
        if _is_open(Path(path))
    ]


def _holds_secrets(value: Any, key: str = "") -> bool:  # noqa: ANN401 - any TOML value
    match value:
        case dict():
            return any(_holds_secrets(inner, name) for name, inner in value.items())
        case list() if key == TARGETS:
            return any(_holds_secrets(inner) or "url" in inner for inner in value)
        case list():
            return any(_holds_secrets(inner, key) for inner in value)
        case str():
            is_url_with_one = key.endswith("url") and "@" in value
            return bool(value) and (key in SECRETS or is_url_with_one)
        case _:
            return False


def _is_open(path: Path) -> bool:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return False  # reading the file reports the error
    return bool(mode & (0o007 if _IN_A_POD in os.environ else 0o077))
