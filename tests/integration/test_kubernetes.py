"""deploy/kubernetes is valid, agrees with mediabus, and every command in it works."""

import asyncio
import contextlib
import functools
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest

from mediabus.main import cli
from mediabus.runtime.settings_file import load
from mediabus.wiring.registry import PROCESSES
from tests.integration.test_compose import SERVICES, composed_postgres, is_ready, process
from tests.support.eventually import eventually
from tests.support.kubernetes import (
    FOLDER,
    SERVICE_MONITOR,
    Manifest,
    Pod,
    built,
    matches,
    pods,
    version_in,
    with_keys,
)
from tests.support.ports import free_port
from tests.support.secured import SecuredNats, secured_nats

VERSIONS = ("1.29", "1.32", "1.35")
OWNER = "mediabus-owner"
KEYS = {process.name: f"{process.key}.nk" for process in PROCESSES}
LOGINS = {"service": "operations", "monitor": "operations", "persist": "persister"}
OUTSIDE = {"service", "monitor", "notify"}
"""The processes that reach hosts other than NATS and PostgreSQL."""


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredNats]:
    with secured_nats(tmp_path_factory.mktemp("nats"), ()) as server:
        for name in ("web", "owner"):  # the two that an operator makes
            (server.keys / f"{name}.password").write_text("a password of the test")
        yield server


@pytest.fixture(scope="module")
def manifests(nats: SecuredNats, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return built(with_keys(tmp_path_factory.mktemp("kubernetes"), nats.keys))


@pytest.fixture(scope="module")
def all_pods(nats: SecuredNats, manifests: list[Manifest]) -> list[Pod]:
    owner = {"owner.password": (nats.keys / "owner.password").read_bytes()}
    return list(pods(manifests, (OWNER, owner)))


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] == kind]


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid_in_each_version(manifests: list[Manifest], version: str) -> None:
    assert len(manifests) > 20
    for one in manifests:
        kubernetes_validate.validate(one, version, strict=True)


def test_an_invalid_manifest_is_refused(manifests: list[Manifest]) -> None:
    [job] = of_kind(manifests, "Job")
    wrong = {**job, "spec": {**job["spec"], "backoffLimits": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_service_monitor_has_the_shape_that_the_operator_takes() -> None:
    [monitor] = built(FOLDER / "prometheus")
    jsonschema.validate(monitor, SERVICE_MONITOR)


def test_each_process_has_a_deployment_and_the_schema_a_job(all_pods: list[Pod]) -> None:
    kinds = {pod.component: pod.kind for pod in all_pods}
    expected = {one.name for one in PROCESSES} - {"mqtt"}
    assert kinds == {**dict.fromkeys(expected, "Deployment"), "migrate": "Job"}
    for pod in all_pods:
        program, command = pod.container["command"]
        assert program == "mediabus"
        assert command == pod.component
        assert command in cli.list_commands(click.Context(cli))


def test_image_and_job_have_the_version(all_pods: list[Pod]) -> None:
    version = importlib.metadata.version("mediabus")
    image = SERVICES["service"]["image"]
    assert image == f"mediabus-processes:{version}"
    assert {pod.container["image"] for pod in all_pods} == {image}
    [job] = [pod for pod in all_pods if pod.kind == "Job"]
    assert version_in(job.name) == version


def test_job_never_changes_with_settings_or_keys(all_pods: list[Pod]) -> None:
    [job] = [pod for pod in all_pods if pod.kind == "Job"]
    assert "envFrom" not in job.container
    names = [one["secret"]["secretName"] for one in job.spec["volumes"] if "secret" in one]
    assert names == [OWNER]
    assert not any("configMap" in one for one in job.spec["volumes"])


def test_each_pod_gets_its_own_key_and_login_only(all_pods: list[Pod], nats: SecuredNats) -> None:
    for pod in all_pods:
        name = pod.component
        given = {path.rpartition("/")[2] for path in pod.files if "/secrets/" in path}
        login = {f"{LOGINS[name]}.password"} if name in LOGINS else set()
        own = {"owner.password"} if name == "migrate" else {"ca.pem", KEYS[name]}
        assert given == own | login | ({"web.password"} if name == "web" else set()), name
        assert all((nats.keys / file).is_file() for file in given)
        for variable, value in pod.environment.items():
            if value.startswith(("/run/", "/etc/")):
                assert value in pod.files, f"{name}: {variable}"


def test_every_variable_is_a_setting(
    all_pods: list[Pod], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for pod in all_pods:
        with caplog.at_level("WARNING"):
            load(None, relocated(pod, tmp_path / pod.component))
        assert caplog.records == [], pod.name


def test_probes_ask_paths_that_each_process_serves(all_pods: list[Pod]) -> None:
    for pod in all_pods:
        if pod.kind == "Job":
            continue
        container = pod.container
        [port] = container["ports"]
        assert pod.environment["MEDIABUS_HTTP_PORT"] == str(port["containerPort"])
        paths = {
            probe: container[f"{probe}Probe"]["httpGet"]
            for probe in ("startup", "liveness", "readiness")
        }
        assert {probe: get["path"] for probe, get in paths.items()} == {
            "startup": "/livez",
            "liveness": "/livez",
            "readiness": "/readyz",
        }
        assert {get["port"] for get in paths.values()} == {port["name"]}


def test_pods_meet_the_restricted_standard_and_have_limits(all_pods: list[Pod]) -> None:
    for pod in all_pods:
        of_pod, own = pod.spec["securityContext"], pod.container["securityContext"]
        assert of_pod["runAsNonRoot"] is True
        assert of_pod["runAsUser"] > 0
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["enableServiceLinks"] is False  # they look like settings of mediabus
        resources = pod.container["resources"]
        assert {*resources["requests"]} == {"cpu", "memory"}
        assert resources["limits"]["memory"]
        written = [one for one in pod.spec["volumes"] if "emptyDir" in one]
        assert all(one["emptyDir"]["sizeLimit"] for one in written)
        home = pod.environment.get("MEDIABUS_DATA_DIR", "/tmp")
        mounts = {mount["mountPath"] for mount in pod.container["volumeMounts"]}
        assert any(home.startswith(mount) for mount in mounts)


def test_selectors_match_the_pods_that_they_mean(
    all_pods: list[Pod], manifests: list[Manifest]
) -> None:
    deployed = {pod.component: pod for pod in all_pods if pod.kind == "Deployment"}

    def selected(selector: Manifest) -> set[str]:
        return {pod.component for pod in all_pods if matches(selector, pod.labels)}

    for pod in deployed.values():
        assert selected(pod.manifest["spec"]["selector"]) == {pod.component}
    budgets = [
        selected(one["spec"]["selector"]) for one in of_kind(manifests, "PodDisruptionBudget")
    ]
    assert sorted(budgets, key=min) == [{name} for name in sorted(deployed)]
    for service in of_kind(manifests, "Service"):
        [port] = service["spec"]["ports"]
        [behind] = selected({"matchLabels": service["spec"]["selector"]})
        assert port["targetPort"] == deployed[behind].container["ports"][0]["name"]
    policies = {
        one["metadata"]["name"]: selected(one["spec"]["podSelector"])
        for one in of_kind(manifests, "NetworkPolicy")
    }
    assert policies == {
        "mediabus-default": {*deployed, "migrate"},
        "mediabus-http": {"service", "web"},
        "mediabus-outside": OUTSIDE,
    }


def test_prometheus_finds_every_process_under_the_job_of_the_alerts(
    all_pods: list[Pod], manifests: list[Manifest]
) -> None:
    [monitor] = built(FOLDER / "prometheus")
    [endpoint] = monitor["spec"]["endpoints"]
    found = [
        one
        for one in of_kind(manifests, "Service")
        if matches(monitor["spec"]["selector"], one["metadata"]["labels"])
    ]
    components = {one["spec"]["selector"]["app.kubernetes.io/component"] for one in found}
    assert components == {pod.component for pod in all_pods if pod.kind == "Deployment"}
    assert {one["spec"]["ports"][0]["name"] for one in found} == {endpoint["port"]}
    assert endpoint["path"] == "/metrics"
    job = {one["metadata"]["labels"][monitor["spec"]["jobLabel"]] for one in found}
    assert job == {"mediabus"}


def relocated(pod: Pod, directory: Path, **changes: str) -> dict[str, str]:
    """Write the files of a container below a directory, and return its variables for there."""
    for path, content in pod.files.items():
        file = directory / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o600)
    moved = {
        name: f"{directory}{value}" if value.startswith(("/run/", "/etc/", "/tmp/")) else value
        for name, value in pod.environment.items()
    }
    assert changes.keys() <= moved.keys()
    return moved | changes


async def test_commands_run_with_their_environment_and_files(
    all_pods: list[Pod], nats: SecuredNats, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(composed_postgres(nats.keys))
        servers = {"MEDIABUS_NATS_URL": nats.url}

        def environment(pod: Pod, **changes: Any) -> dict[str, str]:
            url = pod.environment["MEDIABUS_DATABASE_URL"]
            here = url.replace("postgres.postgres.svc:5432", f"127.0.0.1:{database}")
            assert here != url
            return relocated(pod, tmp_path / pod.name, MEDIABUS_DATABASE_URL=here, **changes)

        [job] = [pod for pod in all_pods if pod.kind == "Job"]
        migrate = stack.enter_context(process(job.container["command"], environment(job)))
        assert await asyncio.to_thread(migrate.wait, 60) == 0
        urls = []
        for pod in all_pods:
            if pod.kind == "Deployment":
                port = str(free_port())
                here = environment(pod, MEDIABUS_HTTP_PORT=port, **servers)
                stack.enter_context(process(pod.container["command"], here))
                urls.append(f"http://127.0.0.1:{port}")
        for url in urls:
            await eventually(functools.partial(is_ready, f"{url}/readyz"), within=60)
            assert await is_ready(f"{url}/livez")
            assert await is_ready(f"{url}/metrics")
