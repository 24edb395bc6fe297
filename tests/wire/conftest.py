"""Node, for programs that speak to mediabus from another language."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import require_program

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with the packages of this folder installed."""
    found = require_program("node")
    if not (HERE / "node_modules" / ".package-lock.json").exists():
        install = [require_program("npm"), "ci", "--no-audit", "--no-fund"]
        done = subprocess.run(install, cwd=HERE, capture_output=True, text=True, check=False)
        if done.returncode:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"npm ci: {done.stderr}")
    return found
