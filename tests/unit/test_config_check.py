"""`mediabus config check` finds every problem by the parsers of the processes."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from mediabus.main import cli
from mediabus.runtime.settings_file import load

SOUND = """
[nats]
url = "nats://me:hunter2-nats@nats:4222"
[database]
url = "postgresql://me:hunter2-db@db/mediabus"
[[clients]]
name = "home"
kind = "transmission"
url = "http://127.0.0.1:9091"
password = "hunter2-client"
[[apps]]
name = "sonarr"
kind = "sonarr"
url = "http://127.0.0.1:8989"
api_key = "hunter2-app"
[[notify]]
name = "script"
run = "/bin/true"
[[notify]]
name = "phone"
url = "ntfy://ntfy.example/hunter2-topic"
"""


class Checked(NamedTuple):
    code: int
    lines: list[str]
    summary: str


class Checker:
    """A settings file, checked as people check it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mediabus.toml"
        self._folder = folder

    def check(self, text: str, *options: str, **variables: str) -> Checked:
        self.path.write_text(text, encoding="utf-8")
        self.path.chmod(0o600)
        variables = {"MEDIABUS_DATA_DIR": str(self._folder), **variables}
        outside = {name: None for name in os.environ if name.startswith("MEDIABUS_")}
        arguments = [*options, "config", "check", str(self.path)]
        ran = CliRunner().invoke(cli, arguments, env={**outside, **variables})
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
        assert "hunter2" not in ran.output
        *lines, summary = ran.output.splitlines()
        return Checked(ran.exit_code, lines, summary)


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    return Checker(tmp_path)


def test_sound_settings_have_no_problem(checker: Checker) -> None:
    checked = checker.check(SOUND)
    assert (checked.code, checked.lines) == (0, [])
    where = f"{checker.path} and 1 variable"
    assert checked.summary == f"{where}: no problem (apps 1, clients 1, notify 2)"


def test_every_problem_of_every_table_is_reported_at_once(checker: Checker) -> None:
    checked = checker.check(
        """
        [nats]
        replicas = 9
        urls = "nats://x"
        [log]
        level = "loud"
        [monitor]
        stalled_after = inf
        [downloads]
        allowed_hosts = ["http://x"]
        [web]
        trusted_proxies = ["somewhere"]
        [mqtt]
        url = "http://broker"
        [notifier]
        give_up_after = "soon"
        [[clients]]
        name = "home"
        kind = "transmission"
        url = "nowhere"
        pasword = "hunter2"
        [[clients]]
        name = "other"
        kind = "torrent"
        [[apps]]
        name = "sonarr"
        kind = "sonarr"
        url = "http://sonarr"
        [[notify]]
        name = "phone"
        events = ["no such type"]
        rate = "often"
        run = "/bin/true"
        """
    )
    named = [line.removeprefix("error    ").partition(":")[0] for line in checked.lines]
    assert sorted(named) == [
        "apps[0].api_key",
        "clients[0].pasword",
        "clients[0].url",
        "clients[1].kind",
        "downloads.allowed_hosts",
        "log.level",
        "monitor.stalled_after",
        "mqtt.url",
        "nats.replicas",
        "nats.urls",
        "notifier.give_up_after",
        "notify[0].events",
        "notify[0].rate",
        "web.trusted_proxies",
    ]
    assert checked.code == 2
    assert "14 errors, 0 warnings" in checked.summary


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[nats", "is not valid TOML"),
        ('[nats]\nuser = "a\\u0000"', "nats.user: it cannot hold a NUL character"),
        ('[nats]\nurl = "me:hunter2/x@nats"', "nats.url is not a URL of NATS servers"),
        ('[nats]\nnkey_seed_file = "/no/such"', "nats.nkey_seed_file: cannot read /no/such"),
        ('[nats]\ntls_ca = "/no/such"', "nats.tls_ca: cannot use /no/such"),
        ('[database]\nurl = "mysql://me:hunter2@db"', "database.url, or events_url, is not"),
        ('[database]\nevents_url = "postgresql://db/x?sslrootcert=/no/such"', "sslrootcert /no/"),
        ('[database]\nurl = "postgresql://db/x?sslmode=maybe"', "sslmode must be one of disable"),
        ('[mqtt]\nurl = "mqtt://x"\npassword_file = "/no/such"', "mqtt.password_file: cannot"),
        ('[web]\nauth = "none"\n[http]\nhost = "0.0.0.0"', 'web.auth = "none" lets everybody'),
        ('[[notify]]\nname = "a"\nrun = "true"', "notify 'a': run takes the absolute path"),
        ('[[notify]]\nname = "a"\nurl = "nosuch://hunter2"', "notify 'a': Apprise does not know"),
        ('[[notify]]\nname = "a"\nwebhook = "http://x"\nsecret_file = "/no"', "notify[0].secret"),
    ],
)
def test_what_a_process_refuses_at_its_start_is_an_error(
    checker: Checker, text: str, said: str
) -> None:
    checked = checker.check(text)
    assert checked.code == 2
    (line,) = checked.lines
    assert said in line


def test_variables_count_and_errors_name_them(checker: Checker) -> None:
    checked = checker.check(
        SOUND,
        MEDIABUS_HTTP_PORT="70000",
        MEDIABUS_CLIENTS_HOME_PRIORITY="hunter2",
        MEDIABUS_APPS_SONARR_API_KEY_FILE="/no/such",
        MEDIABUS_NATS_URLL="nats://x",
        MEDIABUS_CLIENTS_AWAY_PASSWORD="hunter2",
    )
    assert checked.code == 2
    assert [line.split()[1].rstrip(":") for line in checked.lines] == [
        "MEDIABUS_APPS_SONARR_API_KEY_FILE",
        "MEDIABUS_HTTP_PORT",
        "MEDIABUS_CLIENTS_HOME_PRIORITY",
        "MEDIABUS_NATS_URLL",
        "MEDIABUS_CLIENTS_AWAY_PASSWORD",
    ]
    assert checker.check(SOUND, MEDIABUS_HTTP_PORT="0").code == 0


def test_a_variable_replaces_what_is_wrong_in_a_row(checker: Checker) -> None:
    text = '[[notify]]\nname = "a"\n'
    assert "give exactly one of url" in checker.check(text).lines[0]
    assert checker.check(text, MEDIABUS_NOTIFY_A_RUN="/bin/true").code == 0


def test_warnings_alone_exit_with_1(checker: Checker) -> None:
    checked = checker.check("", MEDIABUS_NATS_URLL="x")
    assert checked.code == 1
    assert checked.lines[0].startswith("warning  MEDIABUS_NATS_URLL is not a setting")


def test_a_file_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "mediabus.toml"
    path.write_text(SOUND, encoding="utf-8")
    path.chmod(0o644)
    ran = CliRunner().invoke(
        cli, ["--config", str(path), "--data-dir", str(tmp_path), "config", "check"]
    )
    assert ran.exit_code == 1
    assert f"chmod 600 {path}" in ran.output


def test_hostile_names_cannot_control_the_terminal(checker: Checker) -> None:
    name = "\\u001b[2J\\u202eevil\\nforged"
    checked = checker.check(f'"{name}" = 1\n[[clients]]\nname = "x"\nkind = "{name}"\n')
    assert checked.code == 2
    assert len(checked.lines) == 2
    assert all(line.isprintable() for line in checked.lines)


def test_a_process_reports_all_errors_too(tmp_path: Path) -> None:
    path = tmp_path / "mediabus.toml"
    path.write_text('[nats]\nreplicas = 9\n[log]\nlevel = "loud"\n', encoding="utf-8")
    ran = CliRunner().invoke(cli, ["--config", str(path), "service"])
    assert ran.exit_code == 1  # main() prints these
    with pytest.raises(Exception, match=r"nats\.replicas") as raised:
        load(str(path), {})
    assert "log.level" in str(getattr(raised.value, "further", ""))
