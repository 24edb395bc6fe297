"""The Dockerfile, read: its stages, and what an image of a stage runs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


class Step(NamedTuple):
    """An instruction, such as ``RUN``, and the rest of its line."""

    instruction: str
    value: str


class Stage(NamedTuple):
    """A stage: its name, the image or stage that it is based on, and its own steps."""

    name: str
    base: str
    steps: list[Step]


def stages() -> list[Stage]:
    """Return the stages in their order."""
    found: list[Stage] = []
    for step in _steps(DOCKERFILE.read_text()):
        if step.instruction == "FROM":
            base, _, name = step.value.partition(" AS ")
            found.append(Stage(name, base, []))
        elif found:
            found[-1].steps.append(step)
    return found


def _steps(text: str) -> Iterator[Step]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        if line.strip():
            instruction, _, value = line.partition(" ")
            yield Step(instruction, value)


def steps_of(name: str) -> list[Step]:
    """Return the steps of a stage, after those of the stages that it is based on."""
    by_name = {stage.name: stage for stage in stages()}
    stage = by_name[name]
    before = steps_of(stage.base) if stage.base in by_name else []
    return [*before, *stage.steps]


def environment_of(name: str, path: str) -> dict[str, str]:
    """Return the variables that a stage sets, on top of a base image with this ``PATH``."""
    variables = {"PATH": path}
    for step in steps_of(name):
        if step.instruction == "ENV":
            for part in step.value.split():
                key, _, value = part.partition("=")
                variables[key] = value.replace("$PATH", variables["PATH"])
    return variables


def words_of(name: str, instruction: str) -> list[str]:
    """Return the words of the last ``ENTRYPOINT``, ``CMD`` or the command of ``HEALTHCHECK``."""
    [*_, value] = [step.value for step in steps_of(name) if step.instruction == instruction]
    words: list[str] = json.loads(value[value.index("[") :])
    return words
