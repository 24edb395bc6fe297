"""AsyncAPI's own parser reads the document that programs in other languages are made from."""

import subprocess

import msgspec

from mediabus.schemas.docs.contracts import async_api
from mediabus.schemas.events import EVENT_TYPES
from mediabus.schemas.operations.registry import OPERATIONS
from tests.wire.conftest import HERE


def parsed(node: str, document: dict[str, object]) -> dict[str, object]:
    """Return what the parser says of a document."""
    done = subprocess.run(
        [node, "asyncapi.mjs"],
        cwd=HERE,
        input=msgspec.json.encode(document),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    said: dict[str, object] = msgspec.json.decode(done.stdout)
    return said


def test_the_document_is_valid_with_its_servers_and_operations(node: str) -> None:
    assert parsed(node, async_api()) == {
        "version": "3.1.0",
        "servers": ["home", "secured"],
        "operations": len(EVENT_TYPES) + len(OPERATIONS),
        "faults": [],
    }


def test_the_parser_reports_a_broken_document(node: str) -> None:
    document = async_api()
    document["operations"]["answer.media.get"]["action"] = "listen"
    assert parsed(node, document)["faults"]
