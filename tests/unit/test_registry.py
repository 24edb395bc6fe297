"""The registry of processes: every name in it leads somewhere, and the documents know it."""

import inspect
from pathlib import Path

import pytest

from mediabus.main import COMMANDS, DAEMONS
from mediabus.secure.nats_keys import ALWAYS
from mediabus.secure.nats_roles import Role
from mediabus.wiring.registry import PROCESSES, Process, imported

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")

every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)


@every_process
def test_run_config_and_role_exist(process: Process) -> None:
    assert inspect.iscoroutinefunction(imported(process.run))
    if process.config:
        assert list(inspect.signature(imported(process.config)).parameters) == ["settings"]
    if process.role:
        assert isinstance(imported(process.role), Role)


@every_process
def test_the_command_line_and_the_keys_have_every_process(process: Process) -> None:
    assert COMMANDS[process.name][1] == process.summary
    assert process.name in DAEMONS
    assert process.key in ALWAYS


@every_process
def test_the_documents_have_every_process_its_port_and_its_key(process: Process) -> None:
    processes, _, rest = OPERATIONS.partition("## At home")
    assert f"| `mediabus {process.name}` |" in processes
    assert str(process.port) in processes
    assert f"`{process.key}.nk`" in rest


def test_names_ports_and_keys_are_unique() -> None:
    for field in ("name", "port", "key"):
        values = [getattr(process, field) for process in PROCESSES]
        assert len(set(values)) == len(values), field
