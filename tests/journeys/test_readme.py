"""README.md, followed to the letter: every recipe works as it is pasted."""

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.eventually import eventually

README = (commands.ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
NOT_PASTED = ("make run ", "nats.example")
"""The first starts what the others need; the other names servers that do not exist."""

RECIPES = [
    block.replace(". .venv/bin/activate\n", "")
    for block in BLOCKS
    if not any(text in block for text in NOT_PASTED)
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder like the checkout, where the user that PostgreSQL runs as may go."""
    with tempfile.TemporaryDirectory(prefix="mediabus-readme-") as made:
        yield Path(made).resolve()


@pytest.fixture
async def up(folder: Path) -> AsyncIterator[None]:
    """What `make run` starts."""
    data = folder / "mediabus-data"
    process = await commands.start("--data-dir", str(data), "up", MEDIABUS_HTTP_PORT="0")
    output = asyncio.create_task(process.communicate())
    try:
        await eventually(lambda: answers(data), within=60)
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(output, 30)


async def answers(data: Path) -> bool:
    """Whether the history is there to be asked."""
    return (await commands.mediabus("--data-dir", str(data), "history")).code == 0


async def paste(folder: Path, text: str) -> tuple[int | None, str]:
    """Run a recipe in a shell, as a reader pastes it; return its exit code and what it prints."""
    programs = Path(sys.executable).parent
    url = json.loads((folder / "mediabus-data" / "connection.json").read_text())["nats_url"]
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-e", "-u", "-o", "pipefail"),
        cwd=folder,
        env={
            **commands.environment(),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "NATS_URL": url,
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(shell.communicate(text.encode()), 60)
    return shell.returncode, output.decode()


@pytest.mark.usefixtures("up")
async def test_every_recipe_works_as_pasted(folder: Path) -> None:
    assert len(RECIPES) >= 9
    printed = ""
    for recipe in RECIPES:
        code, output = await paste(folder, recipe.replace("mediabus tail  ", "timeout 2 true  "))
        assert code == 0, f"{recipe}\n{output}"
        assert "Traceback" not in output, f"{recipe}\n{output}"
        printed += output
    for fact in ("title='Dune'", "stored by NATS:", "backup.finished", "library_scan"):
        assert fact in printed
