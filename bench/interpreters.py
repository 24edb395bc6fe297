"""Other versions of Python, each with its own packages."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from bench.servers import REPOSITORY, Failed

FOLDER: Final = REPOSITORY / ".venv-pythons"
VERSION: Final = "import platform; print(platform.python_version())"


class Interpreter(NamedTuple):
    """A Python, by its path and its version, such as 3.13.0."""

    path: str
    version: str

    def command(self, packages: Path, *arguments: str) -> tuple[str, ...]:
        """Return the command that runs this interpreter with packages and the repository."""
        return ("/usr/bin/env", f"PYTHONPATH={packages}:{REPOSITORY}", self.path, *arguments)

    def packages(self, lock: str) -> Path:
        """Return the folder with the packages of a lock file. Installs them at the first use.

        Raises:
            Failed: a package has no file for this version of Python.
        """
        pins = REPOSITORY / "locks" / lock
        digest = hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
        folder = FOLDER / f"{self.version}-{pins.stem}-{digest}"
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)  # of an installation that was interrupted
            pip = (self.path, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes")
            self._run(*pip, "--requirement", str(pins), "--target", str(partial))
            partial.rename(folder)
        return folder

    @staticmethod
    def _run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{' '.join(command[:4])}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    @classmethod
    def at(cls, path: str) -> "Interpreter":
        """Return the interpreter at a path. Raises Failed if it does not run."""
        return cls(path, cls._run(path, "-c", VERSION))
