"""The JSON Schema of the settings: kept in docs/, and true of every example and mistake."""

import datetime
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner

from mediabus.config.json_schema import json_schema
from mediabus.main import cli
from mediabus.runtime.settings import NAMED_TABLES, Settings
from mediabus.wiring.first_settings import template

ROOT: Final = Path(__file__).parents[2]
SCHEMA: Final = ROOT / "docs" / "mediabus.schema.json"
VALIDATOR: Final = jsonschema.Draft202012Validator(json_schema())

PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK: Final = re.compile(r"^ *```toml\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SECRET: Final = "01234567890123456789"
"""In place of the ``…`` of examples."""


def examples() -> list[Any]:
    """Return every TOML block of the documents, and the settings file of the containers."""
    found = [
        pytest.param(block.replace("…", SECRET), id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    ]
    deployed = (ROOT / "deploy" / "mediabus.toml").read_text(encoding="utf-8")
    first = re.sub(r"^#(?=[^ #\n])", "", template(), flags=re.MULTILINE)
    return [
        *found,
        deployed,
        pytest.param(uncommented(deployed), id="deploy-uncommented"),
        pytest.param(first, id="first-settings-uncommented"),
    ]


def uncommented(text: str) -> str:
    """Return a settings file with the keys and tables that it has as comments."""
    return re.sub(r"^# (?=\[\[?\w+\]\]?$|\w+ = )", "", text, flags=re.MULTILINE)


def as_json(value: object) -> Any:
    """Return a TOML value as an editor validates it: a date is text."""
    match value:
        case dict():
            return {key: as_json(inner) for key, inner in value.items()}
        case list():
            return [as_json(inner) for inner in value]
        case datetime.date():
            return value.isoformat()
        case _:
            return value


def errors(text: str) -> list[str]:
    """Return the paths of the errors in a settings file, and their messages."""
    found = VALIDATOR.iter_errors(as_json(tomllib.loads(text)))
    return [f"{error.json_path}: {error.message}" for error in found]


def test_the_file_in_docs_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(cli, ["config", "schema"])
    assert printed.exit_code == 0
    assert SCHEMA.read_text(encoding="utf-8") == printed.output, (
        "run: .venv/bin/mediabus config schema > docs/mediabus.schema.json"
    )


def test_the_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("text", examples())
def test_every_example_of_the_documents_is_valid(text: str) -> None:
    assert errors(text) == []


def test_the_examples_name_every_table() -> None:
    named = {table for param in examples() for table in tables_of(param)}
    assert set(NAMED_TABLES) <= named


def tables_of(param: Any) -> set[str]:
    text = param if isinstance(param, str) else param.values[0]
    return set(tomllib.loads(text))


CLIENT = '[[clients]]\nname = "home"\nkind = "transmission"\nurl = "http://x"\n'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[nats]\nurls = "nats://x"', "$.nats: "),
        ("[nats]\nreplicas = 9", "$.nats.replicas: "),
        ("[nats]\nmax_bytes = {EVENT = 5}", "$.nats.max_bytes: "),
        ("[nats]\nurl = 5", "$.nats.url: "),
        ('[log]\nlevel = "loud"', "$.log.level: "),
        ('[http]\nport = "8321"', "$.http.port: "),
        ("[monitor]\nstalled_after = 0", "$.monitor.stalled_after: "),
        ('[web]\nbase_path = "mediabus"', "$.web.base_path: "),
        ("[colors]\nred = 1", "$: "),
        ('[clients]\nname = "home"', "$.clients: "),
        (f"{CLIENT}pasword = 'x'", "$.clients[0]: "),
        (f"{CLIENT}sees_files = true", "$.clients[0]: "),
        (f"{CLIENT}poll_active = 99", "$.clients[0].poll_active: "),
        (CLIENT.replace("transmission", "torrent"), "$.clients[0].kind: "),
        (CLIENT.replace('kind = "transmission"\n', ""), "$.clients[0]: "),
        (CLIENT.replace('name = "home"', 'name = "my home"'), "$.clients[0].name: "),
        ('[[apps]]\nname = "s"\nkind = "sonarr"\n', "$.apps[0]: "),
        ('[[notify]]\nurl = "x://y"', "$.notify[0]: "),
        ('[[notify]]\nname = "a"\nurl = "x://y"\nwebhook = "http://x"', "$.notify[0]: "),
        ('[[notify]]\nname = "a"\nseverity = "critical"', "$.notify[0].severity: "),
        ('[[notify]]\nname = "a"\nevents = []', "$.notify[0].events: "),
    ],
)
def test_typical_mistakes_are_found_where_they_are(text: str, place: str) -> None:
    assert any(error.startswith(place) for error in errors(text)), errors(text)


def test_every_key_has_a_description_and_its_default() -> None:
    schema = json_schema()
    for name, definition in schema["$defs"].items():
        for key, rules in definition["properties"].items():
            assert rules.get("description"), f"{name}.{key}: write its docstring below it"
    nats = schema["$defs"]["NatsSettings"]["properties"]
    assert (nats["replicas"]["default"], nats["max_age_days"]["default"]) == (1, 30.0)
    assert "default" not in nats["url"]
    delays = schema["$defs"]["NotifierSettings"]["properties"]["retry_delays"]
    assert delays["default"] == Settings().notifier.retry_delays


def test_the_defaults_of_all_settings_are_valid() -> None:
    defaults = json.loads(msgspec.json.encode(Settings()))
    tables = {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in defaults.items()
        if isinstance(table, dict)
    }
    assert not list(VALIDATOR.iter_errors(tables))
