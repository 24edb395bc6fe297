"""The files of a deployment: systemd units, image names, the bill of materials."""

import json
import re
import subprocess
from pathlib import Path

import pytest

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
    foreign = [image for image in named if not image.startswith("mediabus:")]
    base = re.search(r"^ARG PYTHON=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert base
    assert len(foreign) >= 2
    assert [image for image in (*foreign, base[1]) if not DIGEST.fullmatch(image)] == []
    stages = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(stages) == {"${PYTHON}"}


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
