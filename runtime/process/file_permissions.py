"""Files with secrets in them that others on this machine may read."""

import stat
import tomllib
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from service.runtime.settings import Settings

SECRETS: Final = {"password"}


def exposed(config: str | None, settings: Settings) -> list[str]:
    """A line for each settings file with a password in it, and each key, that is not for its owner
    alone, saying what to do."""
    holding = [config] if config and _holds_secrets(tomllib.loads(Path(config).read_text())) else []
    holding += filter(None, (settings.nats.nkey_seed_file, settings.nats.credentials))
    return [
        f"{path} holds secrets and others may read it: chmod 600 {path}"
        for path in holding
        if _is_open(Path(path))
    ]


def _holds_secrets(value: Any, key: str = "") -> bool:  # noqa: ANN401 - whatever TOML can say
    match value:
        case dict():
            return any(_holds_secrets(inner, name) for name, inner in value.items())
        case list():
            return any(_holds_secrets(inner) for inner in value)
        case str():
            is_url_with_one = key.endswith("url") and "@" in urlsplit(value).netloc
            return bool(value) and (key in SECRETS or is_url_with_one)
        case _:
            return False


def _is_open(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False  # whoever reads it says so
