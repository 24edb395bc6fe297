"""The documents say what the types say."""

from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from mediabus.schemas import codec
from mediabus.schemas.docs import contracts as export
from mediabus.schemas.docs import markdown as catalogue
from mediabus.schemas.docs.examples import _plain, example
from mediabus.schemas.events import EVENT_TYPES
from mediabus.schemas.operations.registry import OPERATIONS

EVENTS_MD = Path(__file__).parents[2] / "docs" / "events.md"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = export.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def as_json(name: str) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(codec.encode(example(EVENT_TYPES[name])))
    return document


def test_the_catalogue_is_the_one_that_the_types_make() -> None:
    assert EVENTS_MD.read_text(encoding="utf-8") == catalogue.markdown(), (
        "docs/events.md is stale: run `mediabus schema markdown > docs/events.md`"
    )


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_each_example_is_valid_and_has_every_field(
    validator: jsonschema.Draft202012Validator, name: str
) -> None:
    document = as_json(name)
    validator.validate(document)
    assert codec.decode(msgspec.json.encode(document)) == example(EVENT_TYPES[name])
    fields = {field.name for field in msgspec.structs.fields(EVENT_TYPES[name])}
    assert set(document["data"]) == fields


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_the_schema_and_the_codec_refuse_the_same_missing_fields(
    validator: jsonschema.Draft202012Validator, name: str
) -> None:
    for missing in as_json(name)["data"]:
        document = as_json(name)
        del document["data"][missing]
        try:
            codec.decode(msgspec.json.encode(document))
            accepted = True
        except codec.InvalidEvent:
            accepted = False
        assert validator.is_valid(document) == accepted


def test_the_schema_accepts_unregistered_types_and_fields(
    validator: jsonschema.Draft202012Validator,
) -> None:
    document = as_json("job.failed")
    assert validator.is_valid({**document, "type": "my.own", "data": {"any": 1}})
    assert validator.is_valid({**document, "data": {**document["data"], "more": 1}})
    for broken in ({"specversion": "0.3"}, {"id": ""}, {"type": ""}, {"severity": "fatal"}):
        assert not validator.is_valid({**document, **broken})


def test_the_api_names_every_event_and_every_operation() -> None:
    api = export.async_api()
    assert set(EVENT_TYPES) | set(OPERATIONS) < set(api["channels"])
    answers = {name for name, does in api["operations"].items() if does["action"] == "receive"}
    assert answers == {f"answer.{subject}" for subject in OPERATIONS}
    assert all("reply" in api["operations"][answer] for answer in answers)
    address = api["channels"]["download.failed"]["address"]
    assert address == "events.downloads.download.failed.{resource_id}"


def test_every_reference_of_the_api_leads_somewhere() -> None:
    api = export.async_api()
    references = list(references_in(api))
    assert len(references) > 100
    for reference in references:
        part: Any = api
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def references_in(part: object) -> list[str]:
    match part:
        case {"$ref": str() as reference}:
            return [reference]
        case dict():
            return [found for value in part.values() for found in references_in(value)]
        case list():
            return [found for value in part for found in references_in(value)]
    return []


def test_the_schemas_of_the_api_are_in_its_dialect() -> None:
    schemas = export.async_api()["components"]["schemas"]
    for name in schemas:
        document = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        jsonschema.Draft7Validator.check_schema(schemas[name])
        validator = jsonschema.Draft7Validator(document)
        assert not validator.is_valid("no object")
    updated = {"$ref": "#/components/schemas/MediaItemUpdated", "components": {"schemas": schemas}}
    validator = jsonschema.Draft7Validator(updated)
    data = as_json("media_item.updated")["data"]
    validator.validate(data)
    assert not validator.is_valid({**data, "changes": {"year": [1, 2, 3]}})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int | None, 1),
        (str, "text"),
        (list[int], []),
        (dict[str, int], {}),
        (bool, True),
        (None, None),
        (Any, None),
    ],
)
def test_a_field_without_a_sample_gets_a_value_of_its_type(annotation: Any, value: object) -> None:
    made = _plain(msgspec.json.schema(annotation))
    assert made == value
    msgspec.convert(made, annotation)


def test_moments_in_new_event_types_get_one_too() -> None:
    schema = {"type": "string", "format": "date-time"}
    assert str(_plain(schema)).startswith("2026-11-22 10:00:00")
