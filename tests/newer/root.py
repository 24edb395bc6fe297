"""Makes a Debian sid root with the newest download clients, once, and wrappers that run them in it.

A wrapper is an executable as any other: it mounts what a daemon needs in a mount namespace of its
own, changes into the root and becomes the daemon, which keeps the process number of the wrapper.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

FOLDER: Final = Path(os.environ.get("MEDIABUS_NEWER_ROOT", "/var/cache/mediabus-sid"))
"""Where root and wrappers are kept between runs."""

ROOT: Final = FOLDER / "root"
WRAPPERS: Final = FOLDER / "bin"

PROGRAMS: Final = {
    "aria2c": "aria2",
    "deluged": "deluged",
    "nzbget": "nzbget",
    "qbittorrent-nox": "qbittorrent-nox",
    "rtorrent": "rtorrent",
    "sabnzbdplus": "sabnzbdplus",
    "transmission-daemon": "transmission-daemon",
}
"""Each client's program and its package; a package that Debian does not have is left out."""

HELPERS: Final = ("7zip", "par2", "python3-setuptools", "unrar")
"""What the clients unpack and repair with."""

COMPONENTS: Final = "main,contrib,non-free"


class CannotMake(Exception):
    """The root cannot be made; the message says what is missing."""


def make() -> None:
    """Make root and wrappers unless they are there. Takes minutes and about 700 MB."""
    if not (FOLDER / "made").exists():
        _require_root_and_debootstrap()
        _bootstrap()
        _install()
        (FOLDER / "made").touch()
    _write_wrappers()


def _require_root_and_debootstrap() -> None:
    if os.geteuid() != 0:
        raise CannotMake("a Debian root is made by root: run it with sudo")
    for program in ("debootstrap", "unshare", "chroot"):
        if shutil.which(program) is None:
            raise CannotMake(f"{program} is not installed: on Debian, apt install {program}")


def mirror() -> str:
    """The Debian mirror of this machine's own apt configuration."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    of_debian = ["Created-By: Packages", "Origin: Debian", "Label: Debian"]
    lines = subprocess.run([*command, *of_debian], capture_output=True, text=True, check=True)
    found = lines.stdout.split()
    if not found:
        raise CannotMake("apt knows no Debian mirror: add one to its sources, then apt update")
    return found[0]


def _bootstrap() -> None:
    """The root itself, complete or not there at all: a run that was cut off begins again."""
    partial = FOLDER / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    options = ["--variant=minbase", f"--components={COMPONENTS}"]
    _run(["debootstrap", *options, "sid", str(partial), mirror()])
    shutil.rmtree(ROOT, ignore_errors=True)
    partial.rename(ROOT)


def _install() -> None:
    """The clients, none of which may start by itself."""
    policy = ROOT / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    _write_wrapper("apt-get")
    _write_wrapper("apt-cache")
    apt_get = str(WRAPPERS / "apt-get")
    packages = [name for name in PROGRAMS.values() if _has_package(name)]
    _run([apt_get, "install", "-y", "-q", "--no-install-recommends", *packages, *HELPERS])
    _run([apt_get, "clean"])
    (ROOT / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")


def _has_package(name: str) -> bool:
    shown = subprocess.run(
        [str(WRAPPERS / "apt-cache"), "show", "--no-all-versions", name],
        capture_output=True,
        check=False,
    )
    return shown.returncode == 0


def _run(command: list[str]) -> None:
    environment = {"PATH": os.environ["PATH"], "DEBIAN_FRONTEND": "noninteractive", "LANG": "C"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise CannotMake(f"{' '.join(command)} failed with exit status {done.returncode}")


def _write_wrappers() -> None:
    _write_wrapper("python3")
    _write_wrapper("dpkg-query")
    for program in PROGRAMS:
        if (ROOT / "usr/bin" / program).exists():
            _write_wrapper(program)
    # The tests start deluged by the Python that the first line of its script names.
    _write(WRAPPERS / "deluged", DELUGED.format(python=WRAPPERS / "python3"))


def _write_wrapper(program: str) -> None:
    _write(WRAPPERS / program, WRAPPER.format(root=ROOT, program=program))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


WRAPPER: Final = """\
#!/bin/sh
# Runs {program} in the Debian root {root}, with this machine's /dev, /proc and /tmp, and with the
# folder of every file that an argument names.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
exec unshare --mount sh -ec '
root=$1; here=$2; shift 2
for folder in dev proc tmp; do mount --rbind "/$folder" "$root/$folder"; done
for argument in "$@"; do
    case $argument in /*) ;; *) continue ;; esac
    if [ -f "$argument" ] && [ ! -e "$root$argument" ]; then
        folder=$(dirname "$argument")
        mkdir -p "$root$folder"
        mount --bind "$folder" "$root$folder"
    fi
done
[ -d "$root$here" ] || here=/
exec chroot "$root" env -C "$here" "$@"
' sh {root} "$PWD" {program} "$@"
"""

DELUGED: Final = """\
#!{python}
import sys

from deluge.core.daemon_entry import start_daemon

sys.exit(start_daemon())
"""
