"""Runs the tests of the download clients with the newest versions, those of Debian sid.

``python -m tests.newer``, as root; arguments go to pytest. ``MEDIABUS_NEWER_ROOT`` is where the
Debian root is kept, /var/cache/mediabus-sid if it is not set; remove it to get newer versions.
"""

import datetime
import os
import subprocess
import sys
from typing import Final

from tests.newer import root

VARIABLES: Final = {
    "MEDIABUS_TEST_ARIA2": "aria2c",
    "MEDIABUS_TEST_DELUGE": "deluged",
    "MEDIABUS_TEST_NZBGET": "nzbget",
    "MEDIABUS_TEST_QBITTORRENT": "qbittorrent-nox",
    "MEDIABUS_TEST_RTORRENT": "rtorrent",
    "MEDIABUS_TEST_SABNZBD": "sabnzbdplus",
    "MEDIABUS_TEST_TRANSMISSION": "transmission-daemon",
}
"""What tells the tests which program to start for each client."""


def main(arguments: list[str]) -> int:
    """Make the root if needed, run the tests and print the versions. The exit status of pytest."""
    try:
        root.make()
    except root.CannotMake as error:
        sys.stderr.write(f"mediabus: {error}\n")
        return 1
    named = {
        variable: str(root.WRAPPERS / program)
        for variable, program in VARIABLES.items()
        if (root.ROOT / "usr/bin" / program).exists()
    }
    sys.stdout.write(versions())
    sys.stdout.flush()
    command = [sys.executable, "-m", "pytest", *(arguments or ["tests/clients"])]
    status = subprocess.run(command, env=os.environ | named, check=False).returncode
    sys.stdout.write(versions())
    return status


def versions() -> str:
    """A table of the clients in the root and their Debian versions."""
    packages = sorted(root.PROGRAMS.values())
    query = [str(root.WRAPPERS / "dpkg-query"), "-W", "-f", "${Package} ${Version}\\n", *packages]
    shown = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    found = dict(line.split(" ", 1) for line in shown.splitlines())
    today = datetime.datetime.now(datetime.UTC).date()
    rows = [f"| {name} | {found.get(name) or 'not in Debian sid'} | {today} |" for name in packages]
    return "\n".join(["| client | version | tested on |", "|---|---|---|", *rows, ""])


sys.exit(main(sys.argv[1:]))
