"""The settings file that the first `mediabus up` writes: every setting, explained and commented."""

import logging
import os
from importlib import resources
from pathlib import Path
from typing import Final

from mediabus.runtime.settings_file import SETTINGS_FILE

log: Final = logging.getLogger("mediabus.process")

TEMPLATE: Final = "first_settings.toml"


def write_first_settings(data_dir: Path) -> Path | None:
    """Write the settings file into the data directory, readable by its owner only.

    Never replaces a file. Returns its path if it was written. Without it, the defaults apply, so a
    folder that cannot be written is logged only.
    """
    path = data_dir / SETTINGS_FILE
    try:
        _create(path, template())
    except FileExistsError:
        return None
    except OSError as error:
        extra = {"path": str(path), "reason": error.strerror}
        log.warning("cannot write a settings file, the defaults apply", extra=extra)
        return None
    return path


def template() -> str:
    """Return the text of the file."""
    return (resources.files("mediabus.wiring") / TEMPLATE).read_text(encoding="utf-8")


def _create(path: Path, text: str) -> None:
    """Create a file. Raises OSError, and FileExistsError if there is one.

    A crash may leave a part of it, which is valid: every line is a comment.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink()
            raise
