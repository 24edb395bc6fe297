"""`make fuzz`: atheris looks for bytes that the codec neither takes nor refuses.

python -m tests.fuzz_codec [-runs=100000] [-seed=1]
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from schemas import codec, subjects

from schemas.events import EVENT_TYPES
from schemas.examples import example


def look(data: bytes) -> None:
    """Bytes are an event that stays the same on its way and has a subject, or they are invalid."""
    with contextlib.suppress(codec.InvalidEvent):
        envelope = codec.decode(data)
        assert codec.decode(codec.encode(envelope)) == envelope
        bytes(envelope.data).decode()
        assert len(subjects.subject_of(envelope).split(".")) == 5


def main() -> None:
    """Starts from an example of each event."""
    with tempfile.TemporaryDirectory(prefix="mediabus-fuzz-") as corpus:
        for name, event_class in EVENT_TYPES.items():
            Path(corpus, name).write_bytes(codec.encode(example(event_class)))
        atheris.Setup([*(sys.argv if sys.argv[1:] else [*sys.argv, "-runs=100000"]), corpus], look)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
