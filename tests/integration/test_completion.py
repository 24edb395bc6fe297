"""`mediabus completion`: real shells complete commands, options, values and files."""

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.commands import environment
from tests.support.servers import require_program

BIN: Final = Path(sys.executable).parent
START: Final = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SET_UP: Final = {
    "bash": "source <(mediabus completion bash)",
    "zsh": "autoload -Uz compinit; compinit -u -D; source <(mediabus completion zsh)",
}
STYLE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\x00\x07\r]")


class Shell:
    """An interactive shell on a terminal, in which a person types."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def shows(self, text: str, *, within: float = 60) -> str:
        """Wait until the screen shows a text after all that was waited for before."""
        deadline = time.monotonic() + within
        while text not in self._shown:
            ready, _, _ = select.select([self._terminal], [], [], 0.2)
            if ready:
                with contextlib.suppress(OSError):
                    self._shown += os.read(self._terminal, 1 << 16).decode(errors="replace")
                    self._shown = STYLE.sub("", self._shown)
            assert time.monotonic() < deadline, f"no {text!r} in {self._shown!r}"
        before, _, self._shown = self._shown.partition(text)
        return before

    def run(self, command: str) -> None:
        """Run a command to its end."""
        self.type(f"{command}; echo rea''dy\n")
        self.shows("ready")

    def completes(self, begin: str, text: str) -> None:
        """Press the tab key after the beginning of a line, and wait for the rest of it."""
        self.type(begin)
        self.type("\t")
        self.shows(text)
        self.type("\x15")  # Ctrl-U: an empty line


COMPLETED: Final = {
    "mediabus moni": "monitor",
    "mediabus config che": "check",
    "mediabus notify res": "resend",
    "mediabus history --seve": "--severity",
    "mediabus history --severity warn": "warning",
    "mediabus completion zs": "zsh",
    "mediabus config check libr": "library.toml",
    "mediabus --config libr": "library.toml",
}
"""The beginnings of lines, and what the tab key adds to each."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "library.toml").write_text("")
    return tmp_path


def variables(home: Path) -> dict[str, str]:
    own = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
        "TERM": "dumb",
        "PS1": "$ ",
        "INPUTRC": "/dev/null",
    }
    return {**environment(), **own}


@contextlib.contextmanager
def interactive(name: str, home: Path) -> Iterator[Shell]:
    require_program(name)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *START[name]],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=home,
        env=variables(home),
    )
    os.close(theirs)
    try:
        yield Shell(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("name", START)
def test_a_shell_completes_commands_options_values_and_files(name: str, home: Path) -> None:
    with interactive(name, home) as shell:
        shell.run(SET_UP[name])
        for begin, whole in COMPLETED.items():
            shell.completes(begin, whole)


def test_fish_completes_commands_options_values_and_files(home: Path) -> None:
    require_program("fish")
    lines = [f"echo; complete -C '{begin}'" for begin in COMPLETED]
    script = "\n".join(["mediabus completion fish | source", *lines])
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=home,
        env=variables(home),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [text.split("\t")[0].strip() for text in done.stdout.split("\n\n")]
    assert dict(zip(COMPLETED, found, strict=True)) == COMPLETED
    assert "Watch the download clients" in done.stdout


IMPORTS: Final = """
import sys
from mediabus.main import main
try:
    main()
finally:
    print(sorted({"nats", "asyncpg", "aiohttp", "msgspec", "asyncio"} & set(sys.modules)))
"""


def test_the_list_of_commands_imports_none_of_them() -> None:
    asked = {"_MEDIABUS_COMPLETE": "zsh_complete", "COMP_WORDS": "mediabus ", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        env={**environment(), **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "plain\nmonitor\nWatch the download clients" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
