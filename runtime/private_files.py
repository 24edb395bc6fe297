"""Files that nobody but their owner may read: what holds passwords and keys."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Writes the file whole or not at all, readable by its owner alone from the beginning."""
    half = path.with_name(f"{path.name}.new")
    half.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(half, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    half.replace(path)
