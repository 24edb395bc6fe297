"""promtool accepts the configuration and the alerts, and shows each alert firing and silent."""

import subprocess
from pathlib import Path

from tests.support.prometheus import CONFIG, RULES, TESTS
from tests.support.servers import require_program


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require_program("promtool"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        cwd=TESTS.parent,
    )


def test_prometheus_accepts_the_configuration_and_the_rules() -> None:
    for what in (("check", "config", str(CONFIG)), ("check", "rules", str(RULES))):
        done = promtool(*what)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    done = promtool("test", "rules", str(TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_rule_fails_the_tests(tmp_path: Path) -> None:
    text = RULES.read_text(encoding="utf-8")
    assert "mediabus_mqtt_connected == 0" in text
    (tmp_path / "rules.yml").write_text(text.replace("mqtt_connected == 0", "mqtt_connected == 2"))
    (tmp_path / "tests.yml").write_bytes(TESTS.read_bytes())
    done = promtool("test", "rules", str(tmp_path / "tests.yml"))
    assert done.returncode != 0
    assert "MediabusMqttDisconnected" in done.stdout + done.stderr
