"""CloudEvents of other programs: the examples of the specification, and any valid event at all."""

import base64
import datetime
from typing import Any, Final

from hypothesis import strategies as some

from mediabus.schemas.events import EVENT_TYPES

THRIFT: Final = base64.b64encode(b"\x80\x01\x00\x01raw binary bytes").decode()
COMMON: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "time": "2018-04-05T17:31:00Z",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
}
SPECIFICATION: Final[dict[str, dict[str, Any]]] = {
    "binary": COMMON
    | {
        "id": "A234-1234-1234",
        "datacontenttype": "application/vnd.apache.thrift.binary",
        "data_base64": THRIFT,
    },
    "xml": COMMON
    | {
        "id": "B234-1234-1234",
        "unsetextension": None,
        "datacontenttype": "application/xml",
        "data": '<much wow="xml"/>',
    },
    "object": COMMON
    | {
        "id": "C234-1234-1234",
        "subject": None,
        "datacontenttype": "application/json",
        "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True},
    },
    "number": COMMON
    | {
        "id": "C234-1234-1235",
        "subject": None,
        "datacontenttype": "application/json",
        "data": 1.5,
    },
    "string": COMMON | {"id": "D234-1234-1234", "subject": None, "data": "I'm just a string"},
    "no content type": {
        "specversion": "1.0",
        "type": "com.example.someevent",
        "source": "/mycontext",
        "id": "D234-1234-1235",
        "data_base64": "eyAieHl6IjogMTIzIH0=",
    },
}
"""The examples of the JSON event format, 3.2; where two had one id, the second ends in 5."""

_TEXT: Final = some.text(
    some.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=20
)
_NAME: Final = _TEXT.filter(bool)
_NUMBER: Final = some.integers(-(10**30), 10**30) | some.floats(
    allow_nan=False, allow_infinity=False
)
ANY_JSON: Final = some.recursive(
    some.none() | some.booleans() | _NUMBER | _TEXT,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_EXTENSIONS: Final = some.dictionaries(
    some.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True).map("x{}".format),
    _TEXT | some.booleans() | some.integers(-(2**31), 2**31 - 1),
    max_size=3,
)
_TIMES: Final = some.datetimes(
    min_value=datetime.datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis wants them naive
    max_value=datetime.datetime(2026, 1, 1),  # noqa: DTZ001 - the same
    timezones=some.sampled_from(
        [datetime.UTC, datetime.timezone(datetime.timedelta(hours=5, minutes=30))]
    ),
).map(lambda moment: moment.isoformat().replace("+00:00", "Z"))
_DATA: Final = some.one_of(
    some.just({}),
    ANY_JSON.map(lambda data: {"data": data}),
    ANY_JSON.map(lambda data: {"data": data, "datacontenttype": "application/json"}),
    _TEXT.map(lambda data: {"data": data, "datacontenttype": "text/plain; charset=utf-8"}),
    some.binary(max_size=40).map(
        lambda data: {
            "data_base64": base64.b64encode(data).decode(),
            "datacontenttype": "application/avro",
        }
    ),
    some.binary(max_size=40).map(
        lambda data: {"data_base64": base64.b64encode(data).decode()},
    ),
)


@some.composite
def any_event(draw: some.DrawFn) -> dict[str, Any]:
    """Any valid CloudEvent of a type that is not registered, as a JSON object."""
    required = {
        "specversion": "1.0",
        "id": draw(some.uuids().map(str) | _NAME),
        "source": draw(_NAME),
        "type": draw(_NAME.filter(lambda name: name not in EVENT_TYPES)),
    }
    optional = {
        "time": draw(some.none() | _TIMES | _TIMES.map(_finer)),
        "subject": draw(some.none() | _NAME),
        "dataschema": draw(some.none() | some.just("https://example.org/schema#1")),
    }
    given = {name: value for name, value in optional.items() if value is not None}
    extensions: dict[str, Any] = draw(_EXTENSIONS)
    data: dict[str, Any] = draw(_DATA)
    return required | given | extensions | data


def _finer(time: str) -> str:
    """With nanoseconds, as Go writes them."""
    date, _, rest = time.partition("T")
    return f"{date}T{rest[:8]}.123456789{'Z' if rest.endswith('Z') else rest[-6:]}"
