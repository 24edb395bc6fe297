"""The recipes of docs/apps.md, sent as the programs send them."""

import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import pytest
import yaml

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings_file import load
from mediabus.service.apps.configured import app_settings
from mediabus.service.ingest.http.cloud_events import CloudEvents
from tests.support.http_in import send, serving_endpoint
from tests.support.stream import messages

TOKEN = "a-token-of-sixteen-or-more"
DOCUMENT = Path(__file__).parents[2] / "docs" / "apps.md"
URL = "http://mediabus:8321/events"


def blocks(section: str, language: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n### {section}\n")[2]
    text = re.split(r"\n##+ ", text)[0]
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, section
    return [block.replace("TOKEN", TOKEN) for block in found]


@pytest.fixture
async def url(bus: Bus) -> AsyncIterator[str]:
    async with serving_endpoint(CloudEvents(bus, TOKEN).receive) as base:
        yield f"{base}/events"


async def only_event(bus: Bus) -> dict[str, Any]:
    (message,) = await messages(bus)
    event: dict[str, Any] = msgspec.json.decode(message.data or b"")
    return event


def test_example_of_the_settings_loads(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "mediabus.toml"
    path.write_text(example, encoding="utf-8")
    loaded = load(str(path), {})
    (app,) = app_settings(loaded, {})
    assert (app.kind, loaded.ingest.url) == ("sonarr", "http://mediabus:8321")
    named = re.findall(r"^\| (`.*?) \| ", text.partition("\n## Connect")[0], re.MULTILINE)
    documented = {name for cell in named for name in re.findall(r"`(\w+)`", cell)}
    fields = {field.name for field in msgspec.structs.fields(type(app))}
    assert documented == fields | {"kind"}


async def curl(url: str, command: str) -> int:
    """Send what curl sends: --data makes it a POST."""
    arguments = shlex.split(command.replace("\\\n", " "))
    assert arguments[:2] == ["curl", URL]
    options = list(zip(arguments[2::2], arguments[3::2], strict=True))
    headers = dict(value.split(": ", 1) for option, value in options if option == "--header")
    (body,) = [value for option, value in options if option == "--data"]
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    return (await send(url, body.encode(), **named)).status


async def test_curl_sends_a_structured_event(url: str, bus: Bus) -> None:
    assert await curl(url, blocks("curl", "sh")[0]) == 200
    event = await only_event(bus)
    assert (event["type"], event["data"]["job_name"]) == ("job.executed", "backup")


async def test_curl_sends_a_binary_event(url: str, bus: Bus) -> None:
    assert await curl(url, blocks("curl", "sh")[1]) == 200
    event = await only_event(bus)
    assert (event["id"], event["data"]) == ("report-2026-11-28", "all 1204 files are in place")


def handlebars(template: str, values: dict[str, str]) -> str:
    """Fill a template as Handlebars does: an unknown name is empty."""
    return re.sub(r"\{\{\{(\w+)\}\}\}", lambda name: values.get(name[1], ""), template)


@pytest.mark.parametrize("user", ["", "alice"])
async def test_jellyfin_sends_its_template(url: str, bus: Bus, user: str) -> None:
    """The plugin escapes quotes in names itself, and names the charset of its text."""
    values = {
        "ServerId": "f00",
        "NotificationType": "PlaybackStart" if user else "ItemAdded",
        "ItemId": "1d0cb6e0c9a04f0f",
        "UtcTimestamp": "11/28/2026 22:12:00",
        "Name": r"The \"Best\" Film & More",
        "ItemType": "Movie",
        "Provider_tmdb": "438631",
        "NotificationUsername": user,
    }
    (template,) = blocks("Jellyfin", "handlebars")
    reply = await send(
        url,
        handlebars(template, values).encode(),
        Authorization=f"Bearer {TOKEN}",
        Content_Type="application/cloudevents+json; charset=utf-8",
    )
    assert reply.status == 200, reply.body
    event = await only_event(bus)
    assert event["data"]["title"] == 'The "Best" Film & More'
    assert event["subject"] == "library_item/1d0cb6e0c9a04f0f"


async def test_jellyfin_is_understood_without_a_content_type(url: str, bus: Bus) -> None:
    """The plugin sends text/plain unless a header says otherwise."""
    (template,) = blocks("Jellyfin", "handlebars")
    body = handlebars(template, {"NotificationType": "ItemAdded", "ItemId": "1"}).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "text/plain; charset=utf-8"}
    assert (await send(url, body, **headers)).status == 200
    assert (await only_event(bus))["type"] == "jellyfin.ItemAdded"


async def test_tautulli_sends_its_data(url: str, bus: Bus) -> None:
    """Tautulli parses the JSON and fills each string of it, so no value can break it."""
    headers, data = (json.loads(block) for block in blocks("Tautulli", "json"))
    values = {
        "server_machine_id": "abc",
        "action": "play",
        "session_key": "12",
        "rating_key": "34567",
        "unixtime": "1795903920",
        "title": 'He said "no"',
        "media_type": "movie",
        "username": "bob",
        "player": "TV",
    }

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        return value.format(**values)

    reply = await send(url, json.dumps(filled(data)).encode(), **headers)
    assert reply.status == 200, reply.body
    event = await only_event(bus)
    assert (event["type"], event["data"]["title"]) == ("tautulli.play", 'He said "no"')


async def test_home_assistant_sends_its_rest_command(url: str, bus: Bus) -> None:
    class Loader(yaml.SafeLoader):
        """Home Assistant's YAML, with its secrets."""

    Loader.add_constructor("!secret", lambda _, __: f"Bearer {TOKEN}")
    (block,) = blocks("Home Assistant", "yaml")
    command = yaml.load(block, Loader=Loader)["rest_command"]["mediabus"]
    environment = jinja2.Environment(autoescape=False)
    environment.filters["to_json"] = json.dumps
    values = {"id": "01JDQ", "type": "home.cinema_started", "data": {"room": "cinema"}}
    body = environment.from_string(command["payload"]).render(values)
    assert (command["url"], command["method"]) == (URL, "post")
    reply = await send(
        url,
        body.encode(),
        Authorization=command["headers"]["authorization"],
        Content_Type=command["content_type"],
    )
    assert reply.status == 200, reply.body
    event = await only_event(bus)
    assert (event["type"], event["data"]) == ("home.cinema_started", {"room": "cinema"})
