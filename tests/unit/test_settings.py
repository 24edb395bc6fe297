"""Settings: a file, variables on top, and errors that name the key."""

import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.runtime.nats.credentials import credentials
from mediabus.runtime.nats.logins import servers_of
from mediabus.runtime.process.file_permissions import exposed
from mediabus.runtime.settings import DatabaseSettings, NatsSettings, Settings, SettingsError
from mediabus.runtime.settings_file import CONNECTION_FILE, load, resolved
from mediabus.runtime.settings_variables import unknown_variables
from mediabus.service.clients.sessions import client_settings

FILE = """
data_dir = "/srv/mediabus"
[nats]
url = "nats://nats:4222"
max_age_days = 7
[persister]
writers = 4
[[clients]]
name = "home-1"
kind = "qbittorrent"
url = "http://home:8080"
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mediabus.toml"
    path.write_text(FILE)
    return str(path)


def test_without_anything_there_are_defaults() -> None:
    assert load(None, {}) == Settings()


def test_a_file_overrides_defaults(file: str) -> None:
    settings = load(file, {})
    assert (settings.data_dir, settings.nats.url) == ("/srv/mediabus", "nats://nats:4222")
    assert (settings.nats.max_age_days, settings.persister.writers) == (7.0, 4)
    assert settings.persister.batch == Settings().persister.batch
    assert settings.clients[0]["name"] == "home-1"
    assert load(None, {"MEDIABUS_CONFIG": file}) == settings


def test_variables_win_over_the_file(file: str) -> None:
    environ = {
        "MEDIABUS_NATS_URL": "nats://other:4222",
        "MEDIABUS_PERSISTER_WRITERS": "8",
        "MEDIABUS_DATA_DIR": "/data",
        "MEDIABUS_HTTP_PORT": "0",
        "MEDIABUS_CLIENTS_HOME_1_PASSWORD": "secret",
        "MEDIABUS_CLIENTS_HOME_1_PRIORITY": "3",
        "MEDIABUS_UNKNOWN": "ignored, for it may be anybody's",
    }
    settings = load(file, environ)
    assert (settings.nats.url, settings.persister.writers) == ("nats://other:4222", 8)
    assert (settings.data_dir, settings.http.port) == ("/data", 0)
    assert settings.clients[0]["password"] == "secret"
    assert settings.clients[0]["priority"] == "3"  # the client's own settings make a number of it


def test_a_variable_names_several_hosts_with_commas() -> None:
    settings = load(None, {"MEDIABUS_DOWNLOADS_ALLOWED_HOSTS": "prowlarr, jackett:9117"})
    assert settings.downloads.allowed_hosts == ["prowlarr", "jackett:9117"]
    with pytest.raises(SettingsError, match="MEDIABUS_PERSISTER_BATCH"):
        load(None, {"MEDIABUS_PERSISTER_BATCH": "1,2"})


def test_a_secret_may_come_from_a_file(file: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("pass word\n")
    environ = {
        "MEDIABUS_DATABASE_PASSWORD_FILE": str(secret),
        "MEDIABUS_CLIENTS_HOME_1_PASSWORD_FILE": str(secret),
    }
    settings = load(file, environ)
    assert settings.database.password == "pass word"
    assert settings.clients[0]["password"] == "pass word"
    assert "password_file" not in settings.clients[0]
    directly = load(file, {**environ, "MEDIABUS_DATABASE_PASSWORD": "direct"})
    assert directly.database.password == "direct"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"MEDIABUS_HTTP_PORT": "70000"}, "MEDIABUS_HTTP_PORT"),
        ({"MEDIABUS_PERSISTER_WRITERS": "many"}, "MEDIABUS_PERSISTER_WRITERS"),
        ({"MEDIABUS_LOG_LEVEL": "loud"}, "MEDIABUS_LOG_LEVEL"),
        ({"MEDIABUS_NATS_PASSWORD_FILE": "/no/such"}, "MEDIABUS_NATS_PASSWORD_FILE"),
        (
            {"MEDIABUS_NATS_PASSWORD_FILE": sys.executable},
            "MEDIABUS_NATS_PASSWORD_FILE: .* not text",
        ),
        (
            {"MEDIABUS_LOG_FORMAT": "xml"},
            "MEDIABUS_LOG_FORMAT: .*'xml': it takes auto, console, json",
        ),
        ({"MEDIABUS_CONFIG": "/no/such.toml"}, "/no/such.toml: No such file"),
    ],
)
def test_a_bad_variable_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(None, environ)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[nats]\nurls = 'x'", r"nats.urls: there is no such setting \(did you mean url\?\)"),
        ("[nats]\nreplicas = 9", "nats.replicas"),
        ("nats = 5", "nats"),
        ("[log]\nlevel = 7", "log.level"),
        ("[monitor]\nstalled_after = inf", "monitor.stalled_after"),
        ("[monitor]\nremoved_after = nan", "monitor.removed_after"),
        ("[log]\nlevel = 'loud'", "log.level: .*'loud': it takes debug, info, warning, error"),
        ("colour = 'red'", "colour: there is no such setting$"),
        ("clients = 5", "clients"),
        ("clients = [5]", r"clients\[0\]"),
        ("[clients]\nname = 'x'", r"clients: it is a list of tables: write \[\[clients\]\]"),
        ("[nats", "not valid TOML"),
        (b"\xff", "not valid TOML"),
    ],
)
def test_an_error_in_a_file_names_the_key(content: str | bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mediabus.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=said):
        load(str(path), {"MEDIABUS_CLIENTS_X_PASSWORD": "p", "MEDIABUS_NATS_USER": "u"})


HOME = {"name": "home-1", "kind": "qbittorrent", "url": "http://home"}


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ({"url": 5}, "clients[1].url: Expected `str`, got `int`"),
        ({"url": "home"}, "clients[1].url: url must look like http://host:port"),
        ({"pasword": "p"}, "clients[1].pasword: there is no such setting (did you mean password?)"),
        ({"poll_idle": float("inf")}, "clients[1].poll_idle: Expected `float` <= 86400.0"),
        ({"timeout": float("inf")}, "clients[1].timeout: Expected `float` <= 3600.0"),
        ({"poll_active": 99}, "clients[1].poll_active: Expected `float` <= 60.0"),
        ({"kind": "torrent"}, "clients[1].kind: there is no kind 'torrent': it takes aria2, "),
        ({"kind": ["aria2"]}, "clients[1].kind: there is no kind "),
        ({"tls_ca": "/no/such"}, "clients[1].tls_ca: tls_ca cannot be /no/such: [Errno 2]"),
        ({"kind": "deluge", "url": "deluge://a", "tls_ca": "a"}, "clients[1].tls_ca: there is no"),
        ({"name": "a b"}, "clients[1].name: Expected `str` matching regex"),
    ],
)
def test_an_error_in_a_client_names_the_key(client: dict[str, Any], said: str) -> None:
    settings = Settings(clients=[{**HOME, "name": "sound"}, {**HOME, **client}])
    with pytest.raises(SettingsError, match=re.escape(f"settings: {said}")):
        client_settings(settings, {"MEDIABUS_CLIENTS_HOME_1_USERNAME": "innocent"})


@pytest.mark.parametrize("key", HOME)
def test_a_missing_key_of_a_client_is_named(key: str) -> None:
    rest = {name: value for name, value in HOME.items() if name != key}
    with pytest.raises(SettingsError, match=rf"clients\[0\]\.{key}: it must be given"):
        client_settings(Settings(clients=[rest]), {})


@pytest.mark.parametrize(
    ("variable", "value"), [("KIND", "torrent"), ("PRIORITY", "many"), ("PASWORD", "p")]
)
@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_bad_variable_of_a_client_is_named(
    variable: str, value: str, in_a_file: bool, file: str, tmp_path: Path
) -> None:
    (tmp_path / "value").write_text(value)
    name = f"MEDIABUS_CLIENTS_HOME_1_{variable}"
    given = {f"{name}_FILE": str(tmp_path / "value")} if in_a_file else {name: value}
    with pytest.raises(SettingsError, match=f"^{next(iter(given))}: "):
        client_settings(load(file, given), given)


def test_servers_of_mediabus_up_replace_missing_urls(tmp_path: Path) -> None:
    here = Settings(data_dir=str(tmp_path))
    assert resolved(here) == here
    (tmp_path / CONNECTION_FILE).write_text(
        '{"nats_url": "nats://found:1", "database_url": "postgresql://found"}'
    )
    found = resolved(here)
    assert (found.nats.url, found.database.url) == ("nats://found:1", "postgresql://found")
    named = msgspec.structs.replace(
        here, nats=NatsSettings(url="nats://named:1", user="me"), database=DatabaseSettings(url="d")
    )
    assert resolved(named) == named


def test_credentials_that_cannot_be_read_are_named() -> None:
    with pytest.raises(
        SettingsError, match=r"nats\.credentials: cannot read /no/such: No such file"
    ):
        credentials(NatsSettings(credentials="/no/such"))


@pytest.mark.parametrize("key", ["credentials", "nkey_seed_file"])
@pytest.mark.parametrize(
    "secret",
    ["SUA" + "K" * 55, "-----BEGIN NATS USER JWT-----\nSUAK\n"],
)
def test_error_about_a_key_given_as_a_path_does_not_quote_it(key: str, secret: str) -> None:
    with pytest.raises(SettingsError, match=rf"nats\.{key}: it takes the path of a file") as error:
        credentials(msgspec.convert({key: secret}, NatsSettings))

    assert "SUAK" not in str(error.value)


def test_error_about_a_password_as_a_path_does_not_quote_it() -> None:
    with pytest.raises(SettingsError, match="MEDIABUS_NATS_PASSWORD_FILE: cannot read") as error:
        load(None, {"MEDIABUS_NATS_PASSWORD_FILE": "hunter2"})

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "login",
    [*("me:hunter2/x@", "me:12/hunter2@", "me:hunter2?x@", "me:hunter2#x@", "me:hunter2\u2100@")],
)
def test_error_about_a_nats_url_does_not_quote_the_password(login: str) -> None:
    with pytest.raises(SettingsError, match=r"nats\.url is not a URL of NATS servers") as error:
        servers_of(f"nats://{login}nats:4222", NatsSettings())

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("qbittorrent", "http"), ("deluge", "deluge"), ("rtorrent", "http"), ("rtorrent", "scgi")],
)
@pytest.mark.parametrize(
    "login",
    ["me:hunter2/x@", "me:hunter2?x@", "me:hunter2#x@", "me:hunter2\u2100@", "me:hunter2@["],
)
def test_error_about_a_client_url_does_not_quote_the_password(
    kind: str, scheme: str, login: str
) -> None:
    table = {"name": "home", "kind": kind, "url": f"{scheme}://{login}nas:8080"}
    with pytest.raises(SettingsError, match=r"clients\[0\]\.url: url must look like") as error:
        client_settings(Settings(clients=[table]), {})

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"nats_url": 5}'])
def test_a_broken_connection_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / CONNECTION_FILE).write_text(content)
    with pytest.raises(SettingsError, match=CONNECTION_FILE):
        resolved(Settings(data_dir=str(tmp_path)))


def test_a_variable_sets_the_client_with_the_longest_match(tmp_path: Path) -> None:
    file = tmp_path / "mediabus.toml"
    file.write_text("[[clients]]\nname = 'home'\n[[clients]]\nname = 'home-1'\n")
    settings = load(
        str(file),
        {"MEDIABUS_CLIENTS_HOME_1_PASSWORD": "one", "MEDIABUS_CLIENTS_HOME_PASSWORD": "none"},
    )
    assert [client["password"] for client in settings.clients] == ["none", "one"]


def test_names_whose_variables_would_be_the_same_are_refused() -> None:
    twins = [
        {"kind": "transmission", "name": name, "url": "http://127.0.0.1"} for name in ("a-b", "A_b")
    ]
    with pytest.raises(SettingsError, match="a-b"):
        client_settings(Settings(clients=twins))


def test_an_unknown_variable_is_reported() -> None:
    sound = {
        "MEDIABUS_CONFIG": "x",
        "MEDIABUS_DATA_DIR": "x",
        "MEDIABUS_NATS_PASSWORD_FILE": "x",
        "MEDIABUS_NATS_NKEY_SEED_FILE": "x",
        "MEDIABUS_CLIENTS_HOME_PASSWORD": "x",
        "PATH": "x",
    }
    assert unknown_variables(sound) == []
    slip = {**sound, "MEDIABUS_NATS_URLL": "x"}
    assert unknown_variables(slip) == [
        "MEDIABUS_NATS_URLL is not a setting: docs/operations.md lists them"
    ]


@pytest.mark.parametrize(("mode", "warned"), [(0o440, False), (0o444, True)])
def test_secrets_of_a_pod_are_readable_by_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, *, warned: bool
) -> None:
    key = tmp_path / "service.nk"
    key.write_text("SU…")
    key.chmod(mode)
    settings = load(None, {"MEDIABUS_NATS_NKEY_SEED_FILE": str(key)})
    assert exposed(None, settings)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert bool(exposed(None, settings)) is warned


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    config, password = tmp_path / "mediabus.toml", tmp_path / "password"
    config.write_text('[nats]\nuser = "ärger"\n', encoding=encoding)
    password.write_text("geheim\n", encoding=encoding)
    settings = load(str(config), {"MEDIABUS_NATS_PASSWORD_FILE": str(password)})
    assert (settings.nats.user, settings.nats.password) == ("ärger", "geheim")
    config.chmod(0o644)
    assert exposed(str(config), settings) == []


def test_the_home_directory_is_known_in_every_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mediabus.toml").write_text(
        """
        [nats]
        credentials = "~/user.creds"
        tls_ca = "~/ca.pem"
        [[clients]]
        name = "home"
        tls_ca = "~/client.pem"
        """
    )
    (tmp_path / "seed").write_text("~/user.nk\n")
    environ = {"MEDIABUS_DATA_DIR": "~/data", "MEDIABUS_NATS_NKEY_SEED_FILE_FILE": "~/seed"}
    settings = load("~/mediabus.toml", environ)
    found = (
        settings.data_dir,
        settings.nats.credentials,
        settings.nats.nkey_seed_file,
        settings.nats.tls_ca,
        settings.clients[0]["tls_ca"],
    )
    names = ("data", "user.creds", "user.nk", "ca.pem", "client.pem")
    assert found == tuple(str(tmp_path / name) for name in names)


def test_a_file_that_is_too_deep_or_too_large_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "mediabus.toml"
    config.write_text(f"a = {'[' * 100_000}")
    for path, said in ((str(config), "nested too deeply"), ("/dev/zero", "more than")):
        with pytest.raises(SettingsError, match=f"{path} is not valid TOML: .*{said}"):
            load(path, {})


def test_an_invalid_url_does_not_hide_open_permissions(tmp_path: Path) -> None:
    config = tmp_path / "mediabus.toml"
    config.write_text('[[clients]]\nname = "a"\nurl = "http://u:p@[::1"\n')
    config.chmod(0o644)
    assert "chmod 600" in exposed(str(config), load(str(config), {}))[0]


@pytest.mark.parametrize(
    "line",
    [
        'data_dir = "a\\u0000"',
        '[nats]\ncredentials = "a\\u0000"',
        '[[clients]]\nname = "a"\nurl = "a\\u0000"',
    ],
)
def test_a_nul_is_refused_by_the_name_of_its_setting(tmp_path: Path, line: str) -> None:
    config = tmp_path / "mediabus.toml"
    config.write_text(line)
    with pytest.raises(SettingsError, match=r"settings: \S+: it cannot hold a NUL character"):
        load(str(config), {})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_bytes = {EVENT = 5}", "it takes EVENTS, DEAD_LETTERS"),
        ("max_bytes = {EVENTS = -5}", ">= 1"),
        ('max_bytes = "x"', "Expected"),
        ("max_age_days = inf", "<= 36500"),
        ("max_age_days = 36501", "<= 36500"),
    ],
)
def test_invalid_limits_of_streams_are_refused(tmp_path: Path, line: str, said: str) -> None:
    config = tmp_path / "mediabus.toml"
    config.write_text(f"[nats]\n{line}\n")
    with pytest.raises(SettingsError, match=rf"settings: nats\.max_\S+: .*{said}"):
        load(str(config), {})
