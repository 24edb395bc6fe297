"""`make fuzz`: atheris looks for bytes that the codec neither takes nor refuses.

python -m tests.fuzz_codec [-runs=100000] [-seed=1]
"""

import contextlib
import datetime
import sys
import tempfile
from pathlib import Path

import atheris
import msgspec

with atheris.instrument_imports():
    from mediabus.consumers.event_row import EventRow
    from mediabus.schemas import binary_mode, codec, subjects

from mediabus.schemas.docs.examples import example
from mediabus.schemas.events import EVENT_TYPES
from tests.support.cloud_events import SPECIFICATION

HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/s",
    "ce-type": "a.b",
    "ce-x": "%20",
}
NOW = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)


def look(data: bytes) -> None:
    """Bytes are either a valid event or refused.

    A valid event is unchanged after a round trip, has a subject, and is read from its row byte for
    byte. Bytes with a header block are an event in binary mode.
    """
    headers, body = binary_mode.unpack(data) if data.startswith(b"NATS") else (None, data)
    with contextlib.suppress(codec.InvalidEvent):
        envelope, sent = codec.read(body, headers, published_at=lambda: NOW)
        bytes(envelope.data).decode()
        assert len(subjects.subject_of(envelope).split(".")) == 5
        row = EventRow.decode(body, headers, 1, published_at=lambda: NOW, trust_actor=False)
        assert row == EventRow.of(envelope, 1, sent)
        msgspec.json.decode(msgspec.json.encode(row))
        assert codec.decode(*row.sent(), published_at=lambda: NOW) == envelope
        if sent is not None and headers is None:
            assert row.sent().payload == body
        with contextlib.suppress(codec.InvalidEvent):  # what it says more may make it too large
            assert codec.decode(codec.encode(envelope), published_at=lambda: NOW) == envelope


def main() -> None:
    """Starts from an example of each event and from those of the specification."""
    with tempfile.TemporaryDirectory(prefix="mediabus-fuzz-") as corpus:
        for name, event_class in EVENT_TYPES.items():
            Path(corpus, name).write_bytes(codec.encode(example(event_class)))
        for name, document in SPECIFICATION.items():
            Path(corpus, name).write_bytes(msgspec.json.encode(document))
        Path(corpus, "binary mode").write_bytes(binary_mode.pack(HEADERS, b"{}"))
        atheris.Setup([*(sys.argv if sys.argv[1:] else [*sys.argv, "-runs=100000"]), corpus], look)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
