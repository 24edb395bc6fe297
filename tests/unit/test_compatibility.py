"""What a release promised to programs in other languages, later versions keep."""

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.schemas.docs import contracts as export
from tests.support.compatibility import Schema, breaking_changes

RELEASES = sorted(path.parent for path in Path(__file__).parents[1].glob("golden/*/asyncapi.json"))

ACCEPTED = {
    ".time: may be missing now": "CloudEvents makes it optional; 0.1.0 refused events without it",
    ".datacontenttype/0: minLength is 1, was open": "an empty one is no CloudEvent",
    ".dataschema/0: minLength is 1, was open": "an empty one is no CloudEvent",
}
"""Changes that are reported and break no program, each with its reason."""


@pytest.fixture(scope="module")
def now() -> Schema:
    document: Schema = msgspec.json.decode(msgspec.json.encode(export.async_api()))
    return document


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_programs_written_for_a_release_still_work(release: Path, now: Schema) -> None:
    released = msgspec.json.decode((release / "asyncapi.json").read_bytes())
    assert len(released["components"]["messages"]) > 40
    unaccepted = [
        line
        for line in breaking_changes(released, now)
        if not any(line.endswith(accepted) for accepted in ACCEPTED)
    ]
    assert unaccepted == []


def schema_of(document: Schema, name: str) -> dict[str, Any]:
    schema: dict[str, Any] = document["components"]["schemas"][name]
    return schema


def test_a_removed_field_is_a_breaking_change(now: Schema) -> None:
    changed = copy.deepcopy(now)
    del schema_of(changed, "MediaItemAdded")["properties"]["year"]
    assert breaking_changes(now, changed) == ["media_item.added.data.year: the field is gone"]


def test_a_newly_required_field_is_a_breaking_change(now: Schema) -> None:
    changed = copy.deepcopy(now)
    schema_of(changed, "MediaItemAdded")["required"].append("year")
    assert breaking_changes(now, changed) == ["media_item.added.data.year: is required now"]


def test_a_narrower_type_is_a_breaking_change(now: Schema) -> None:
    changed = copy.deepcopy(now)
    schema_of(changed, "JobExecuted")["properties"]["duration_ms"] = {"type": "integer"}
    assert breaking_changes(now, changed) == [
        "job.executed.data.duration_ms: no longer takes null, number"
    ]


def test_a_narrower_limit_is_a_breaking_change(now: Schema) -> None:
    changed = copy.deepcopy(now)
    schema_of(changed, "CreateMedia")["properties"]["title"]["maxLength"] = 100
    assert breaking_changes(now, changed) == [
        "media.create.request.title: maxLength is 100, was 500"
    ]


def test_a_dropped_value_is_a_breaking_change(now: Schema) -> None:
    changed = copy.deepcopy(now)
    schema_of(changed, "CreateMedia")["properties"]["type"]["enum"] = ["movie"]
    assert breaking_changes(now, changed) == ["media.create.request.type: no longer takes tv_show"]


def test_a_reply_without_a_field_is_a_breaking_change(now: Schema) -> None:
    changed = copy.deepcopy(now)
    schema_of(changed, "MediaItem")["required"].remove("title")
    assert "media.create.reply.title: may be missing now" in breaking_changes(now, changed)


def test_a_removed_message_is_a_breaking_change(now: Schema) -> None:
    changed = copy.deepcopy(now)
    del changed["components"]["messages"]["media.get.request"]
    assert breaking_changes(now, changed) == ["media.get.request: the message is gone"]


def test_a_new_optional_field_and_a_new_message_break_nothing(now: Schema) -> None:
    changed = copy.deepcopy(now)
    schema_of(changed, "MediaItemAdded")["properties"]["stars"] = {"type": "integer"}
    changed["components"]["messages"]["media_item.rated"] = {"payload": {"type": "object"}}
    assert breaking_changes(now, changed) == []
