"""The manifests of deploy/kubernetes, as `kubectl apply -k` would send them."""

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from tests.support.servers import require_program

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
Manifest = dict[str, Any]

SERVICE_MONITOR: Final[Manifest] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "ServiceMonitor"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["selector", "endpoints"],
            "additionalProperties": False,
            "properties": {
                "jobLabel": {"type": "string"},
                "namespaceSelector": {"type": "object"},
                "selector": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"matchLabels": {"type": "object"}},
                },
                "endpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["port"],
                        "additionalProperties": False,
                        "properties": {
                            "port": {"type": "string"},
                            "path": {"type": "string"},
                            "interval": {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"},
                            "scrapeTimeout": {"type": "string"},
                        },
                    },
                },
            },
        },
    },
}
"""A part of the custom resource of the Prometheus Operator: what this manifest uses of it."""


def built(folder: Path) -> list[Manifest]:
    """Return what `kubectl kustomize` makes of a folder. Fails if it refuses the folder."""
    command = [require_program("kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def with_keys(directory: Path, keys: Path) -> Path:
    """Copy the manifests next to keys, as an operator has them, and return the folder."""
    folder = directory / "kubernetes"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("keys"))
    shutil.copytree(keys, folder / "keys")
    return folder


class Pod(NamedTuple):
    """A Deployment or Job, and what its container gets."""

    name: str
    kind: str
    manifest: Manifest
    config_maps: dict[str, dict[str, str]]
    secrets: dict[str, dict[str, bytes]]

    @property
    def component(self) -> str:
        return str(self.labels["app.kubernetes.io/component"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.manifest["spec"]["template"]["metadata"]["labels"])

    @property
    def spec(self) -> Manifest:
        return dict(self.manifest["spec"]["template"]["spec"])

    @property
    def container(self) -> Manifest:
        [container] = self.spec["containers"]
        return dict(container)

    @property
    def environment(self) -> dict[str, str]:
        """All variables of the container, with those of its ConfigMaps."""
        found: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            found |= self.config_maps[source["configMapRef"]["name"]]
        return found | {one["name"]: one["value"] for one in self.container["env"]}

    @property
    def files(self) -> dict[str, bytes]:
        """The content of each file of a ConfigMap or Secret, by its path in the container."""
        volumes = {one["name"]: one for one in self.spec["volumes"]}
        found: dict[str, bytes] = {}
        for mount in self.container["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "secret" in volume:
                content = self.secrets[volume["secret"]["secretName"]]
            elif "configMap" in volume:
                texts = self.config_maps[volume["configMap"]["name"]]
                content = {name: text.encode() for name, text in texts.items()}
            else:
                content = {}
            found |= {f"{mount['mountPath']}/{name}": data for name, data in content.items()}
        return found


def pods(manifests: list[Manifest], *others: tuple[str, dict[str, bytes]]) -> Iterator[Pod]:
    """Yield each Deployment and Job. ``others`` are Secrets that an operator makes by hand."""
    config_maps = {
        one["metadata"]["name"]: one["data"] for one in manifests if one["kind"] == "ConfigMap"
    }
    secrets = {
        one["metadata"]["name"]: {k: base64.b64decode(v) for k, v in one["data"].items()}
        for one in manifests
        if one["kind"] == "Secret"
    }
    for one in manifests:
        if one["kind"] in {"Deployment", "Job"}:
            name = one["metadata"]["name"]
            yield Pod(name, one["kind"], one, config_maps, secrets | dict(others))


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    """Return whether a label selector selects labels."""
    wanted: dict[str, str] = selector.get("matchLabels", {})
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return wanted.items() <= labels.items()


def version_in(name: str) -> str:
    """Return the version at the end of a name such as ``mediabus-migrate-0-1-0``."""
    found = re.search(r"(\d+)-(\d+)-(\d+)$", name)
    assert found, name
    return ".".join(found.groups())
