"""The settings file of the first start: valid when uncommented, complete, and true."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.consumers.notifier.settings import parsed as parsed_notify
from mediabus.runtime.settings import NAMED_TABLES, Section, Settings
from mediabus.runtime.settings_file import SETTINGS_FILE, load, settings_path
from mediabus.service.config import config_of
from mediabus.wiring.first_settings import template, write_first_settings


def uncommented() -> str:
    """Return the file with each setting and table active, and only the prose as comments."""
    return re.sub(r"^#(?=[^ #\n])", "", template(), flags=re.MULTILINE)


def tables() -> dict[str, Any]:
    return tomllib.loads(uncommented())


def test_every_line_is_a_comment() -> None:
    assert [line for line in template().splitlines() if line and not line.startswith("#")] == []
    assert tomllib.loads(template()) == {}


def test_uncommented_file_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "mediabus.toml"
    file.write_text(uncommented())
    settings = load(str(file), {})
    config = config_of(settings)
    assert [client.name for client in config.clients] == ["home"]
    assert [app.name for app in config.apps] == ["sonarr"]
    notifier = parsed_notify(settings)
    assert notifier
    assert [target.name for target in notifier.targets] == ["phone"]


def test_every_setting_is_in_the_file_with_its_default() -> None:
    found = tables()
    assert NAMED_TABLES
    assert all(found[name] for name in NAMED_TABLES)
    defaults: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            section = msgspec.to_builtins(getattr(Settings(), field.name))
            assert section.keys() == found[field.name].keys(), field.name
            defaults |= {f"{field.name}.{key}": value for key, value in section.items()}
    assert len(defaults) > 40
    del defaults["web.users"]  # its example is a table of its own
    written = {key: _value(found, key) for key, default in defaults.items() if default is not None}
    assert written == {key: defaults[key] for key in written}


def _value(tables: dict[str, Any], key: str) -> object:
    table, _, name = key.partition(".")
    return tables[table][name]


def test_file_is_private_and_never_replaced(tmp_path: Path) -> None:
    written = write_first_settings(tmp_path)
    assert written == tmp_path / SETTINGS_FILE
    assert written.read_text() == template()
    assert written.stat().st_mode & 0o777 == 0o600
    written.write_text("# mine")
    assert write_first_settings(tmp_path) is None
    assert written.read_text() == "# mine"


@pytest.mark.parametrize("target", ["file", "missing"])
def test_symlink_is_not_followed(tmp_path: Path, target: str) -> None:
    theirs = tmp_path / "theirs"
    if target == "file":
        theirs.write_text("kept")
    (tmp_path / SETTINGS_FILE).symlink_to(theirs)
    assert write_first_settings(tmp_path) is None
    assert not theirs.exists() or theirs.read_text() == "kept"


def test_unwritable_folder_is_logged_and_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    assert write_first_settings(Path("/proc/self")) is None
    [record] = caplog.records
    assert record.message == "cannot write a settings file, the defaults apply"
    assert record.__dict__["path"] == f"/proc/self/{SETTINGS_FILE}"
    assert record.__dict__["reason"]


def test_file_in_the_data_directory_is_the_last_choice(tmp_path: Path) -> None:
    environ = {"MEDIABUS_DATA_DIR": str(tmp_path)}
    assert settings_path(None, environ) is None
    file = write_first_settings(tmp_path)
    assert settings_path(None, environ) == str(file)
    assert settings_path(None, {}, data_dir=str(tmp_path)) == str(file)
    assert settings_path(None, {**environ, "MEDIABUS_CONFIG": "/their.toml"}) == "/their.toml"
    assert settings_path("/mine.toml", environ) == "/mine.toml"
    (tmp_path / SETTINGS_FILE).write_text("[nats]\nmax_age_days = 7\n")
    assert load(None, environ).nats.max_age_days == 7
