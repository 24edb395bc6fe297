"""The files of a deployment: systemd units, image names, the bill of materials."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mediabus.wiring.registry import PROCESSES
from tests.support.dockerfile import DOCKERFILE, environment_of, stages, steps_of, words_of

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy").glob("*.service"))
DIGEST = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")

EXPOSURE = "30"
"""In tenths: systemd rates a unit below 3.0 as well protected."""


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_unit_exposes_less_than_three(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", str(unit)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_foreign_images_are_pinned_by_digest() -> None:
    named = re.findall(r"^\s*image: (\S+)", (ROOT / "compose.yaml").read_text(), re.MULTILINE)
    foreign = [image for image in named if not image.startswith("mediabus-processes:")]
    base = re.search(r"^ARG PYTHON=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert base
    assert len(foreign) >= 2
    assert [image for image in (*foreign, base[1]) if not DIGEST.fullmatch(image)] == []
    assert {stage.base for stage in stages()} - {stage.name for stage in stages()} == {"${PYTHON}"}


def test_unit_names_every_process() -> None:
    unit = (ROOT / "deploy" / "mediabus@.service").read_text()
    assert [one.name for one in PROCESSES if f"mediabus@{one.name}" not in unit] == []


def hadolint(path: Path) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("hadolint")
    command = [str(program), "--no-color", "--config", "/dev/null", str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


BAD = """\
FROM python:latest
ADD . /src
RUN apt-get update && apt-get install curl
CMD mediabus up
"""


def test_dockerfile_follows_the_rules_of_hadolint(tmp_path: Path) -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text(BAD)
    found = hadolint(tmp_path / "Dockerfile")
    assert found.returncode == 1
    for rule in ("DL3007", "DL3008", "DL3009", "DL3015", "DL3020", "DL3025"):
        assert rule in found.stdout


def test_both_images_drop_root_and_have_a_health_check() -> None:
    assert stages()[-1].name == "all-in-one"  # what `docker build .` makes
    for image, script in (("all-in-one", "all-in-one.sh"), ("processes", "entrypoint.sh")):
        [entry] = words_of(image, "ENTRYPOINT")
        copied = [step.value for step in steps_of(image) if step.instruction == "COPY"]
        assert f"--chmod=755 deploy/{script} /usr/local/bin/{entry}" in copied
        assert "setpriv --reuid=" in (ROOT / "deploy" / script).read_text()
        assert words_of(image, "HEALTHCHECK")[0] == "python"
        assert environment_of(image, "/bin")["MEDIABUS_HTTP_HOST"] == "0.0.0.0"
        assert {step.instruction for step in steps_of(image)} >= {"EXPOSE", "CMD"}


def test_images_install_nothing_that_is_not_pinned_by_hash() -> None:
    installs = [
        step.value
        for stage in stages()
        for step in stage.steps
        if step.instruction == "RUN" and "install" in step.value and "pip" in step.value
    ]
    ours = "pip install --no-deps /wheel/*.whl"
    assert installs.count(ours) == 2
    pinned = re.compile(r"pip install --no-deps --require-hashes --requirement \S*(\w+)\.txt")
    assert [one for one in installs if one != ours and not pinned.fullmatch(one)] == []
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [
        step.value.split()[1]
        for stage in stages()
        for step in stage.steps
        if step.instruction == "COPY" and step.value.startswith("--chmod")
    ]
    assert [one for one in sources if f"!{one}" not in ignored] == []


def test_sbom_lists_every_pinned_package_with_hashes(tmp_path: Path) -> None:
    path = tmp_path / "mediabus.cdx.json"
    subprocess.run(
        ["make", "sbom", f"SBOM={path}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "mediabus"
    pinned = re.findall(r"^(\S+)==(\S+)", (ROOT / "locks" / "home.txt").read_text(), re.MULTILINE)
    assert {(one["name"], one["version"]) for one in bill["components"]} == {*pinned}
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"])
