"""A container without Docker: the last steps of the Dockerfile in a root directory of their own.

The root is this machine's, with all changes in memory, and the programs of this checkout in place
of those that the image installs. The process is number 1 of a namespace, as in a container.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.dockerfile import environment_of, steps_of, words_of
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
IMAGE = "all-in-one"
STARTS_WITHIN = 60
"""Seconds in which a busy machine starts a process."""
BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"

MAKE_ROOT = r"""
scratch=$1 config=$2 mode=$3; shift 3
mount -t tmpfs tmpfs "$scratch"
cd "$scratch"
mkdir up work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/up,workdir=$scratch/work" root
mount -t proc proc root/proc
mount --rbind /dev root/dev
mount -t tmpfs -o mode=1777 tmpfs root/tmp
# What lies in /tmp, or on another file system than /, is not in this root yet.
for folder in "$CHECKOUT" "$ENVIRONMENT" "$INTERPRETER"; do
    [ -z "$(ls -A "root$folder" 2>/dev/null)" ] || continue
    mkdir -p "root$folder"
    mount --rbind "$folder" "root$folder"
done
# Of users, only root: this machine may have others.
echo 'root:x:0:0:root:/root:/bin/sh' > root/etc/passwd
printf 'root:x:0:\nusers:x:100:\n' > root/etc/group
rm -f root/etc/shadow root/etc/gshadow root/etc/subuid root/etc/subgid
rm -rf root/opt/mediabus root/config
mkdir -p root/opt
ln -s "$ENVIRONMENT" root/opt/mediabus
for folder in $PASSABLE; do chmod o+x "root$folder"; done
install --mode=755 "$CHECKOUT/deploy/all-in-one.sh" root/usr/local/bin/mediabus-entrypoint
chroot root sh -ec "$STEPS"
if [ -n "$config" ]; then
    mount --bind "$config" root/config
    [ "$mode" = rw ] || mount -o remount,bind,ro root/config
fi
exec chroot root "$@"
"""


class Container:
    """A running container."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", log: Path, environment: list[str]
    ) -> None:
        self._process = process
        self._environment = environment
        self.log = log

    @property
    def init(self) -> psutil.Process:
        """Process 1 of the container, as this machine sees it."""
        deadline = time.monotonic() + STARTS_WITHIN
        while not (children := psutil.Process(self._process.pid).children()):
            assert self._process.poll() is None, f"it has ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, "unshare has not started it"
            time.sleep(0.01)
        return children[0]

    def processes(self) -> list[psutil.Process]:
        """Return the processes in the container."""
        return [self.init, *self.init.children(recursive=True)]

    def execute(self, *command: str, within: float = 30) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.init.pid}", "--mount", "--pid", "--root", "--wd=/"]
        return subprocess.run(
            [*enter, "env", "--ignore-environment", *self._environment, *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=within,
        )

    def is_healthy(self) -> bool:
        """Run the health check of the image. Fails if the container has ended."""
        return self.execute(*words_of(IMAGE, "HEALTHCHECK")).returncode == 0

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM, as `docker stop` does. Return the exit code and the seconds it took."""
        began = time.monotonic()
        self.init.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        return code, time.monotonic() - began

    def wait(self) -> int:
        """Wait for the end of the command. Return its exit code."""
        return self._process.wait(30)


@contextlib.contextmanager
def container(
    folder: Path,
    config: Path | None,
    *command: str,
    user: int | None = None,
    read_only: bool = False,
    **variables: str,
) -> Iterator[Container]:
    """Run the image, with ``config`` as the volume ``/config``; killed at the end.

    ``folder`` is for its log. ``user`` stands for `docker run --user`.
    """
    if not _may_make_roots():
        pytest.skip("this user may not mount a root directory of its own")
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    defaults = {"MEDIABUS_HTTP_HOST": "127.0.0.1", "MEDIABUS_HTTP_PORT": str(free_port())}
    values = environment_of(IMAGE, BASE_PATH) | defaults | variables
    environment = [f"{name}={value}" for name, value in values.items()]
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    as_root = ["setpriv", "--groups=0,100"]  # Docker gives root the groups of its image
    words = [*words_of(IMAGE, "ENTRYPOINT"), *(command or words_of(IMAGE, "CMD"))]
    mode = "ro" if read_only else "rw"
    log = folder / "container.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("sh", "-ec", MAKE_ROOT, "sh", str(scratch), str(config or ""), mode),
                *(
                    "env",
                    "--ignore-environment",
                    *environment,
                    *(as_user if user else as_root),
                    *words,
                ),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": BASE_PATH, **_places()},
        )
    try:
        yield Container(process, log, environment)
    finally:
        process.kill()
        process.wait()


@functools.cache
def _may_make_roots() -> bool:
    """Return whether this user may make namespaces and mount in them, as in a virtual machine."""
    probe = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return os.geteuid() == 0 and subprocess.run(probe, check=False).returncode == 0


def _places() -> dict[str, str]:
    """Return what the root directory is made from."""
    interpreter = Path(sys.executable).resolve()
    passable = {*PROGRAMS.parents, *interpreter.parents} - {Path("/")}
    run = [step.value for step in steps_of(IMAGE) if step.instruction == "RUN"]
    return {
        "CHECKOUT": str(ROOT),
        "ENVIRONMENT": str(PROGRAMS.parent),
        "INTERPRETER": sys.base_prefix,
        "PASSABLE": " ".join(map(str, sorted(passable))),
        "STEPS": "\n".join(run),
    }
