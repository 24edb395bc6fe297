"""Which refusals of JetStream are final, and which are waited out."""

import pytest
from nats.js.errors import APIError

from mediabus.runtime.nats.refusals import is_final


def refusal(err_code: int, description: str, code: int = 500) -> APIError:
    return APIError(code=code, err_code=err_code, description=description)


@pytest.mark.parametrize(
    "description",
    [
        "write /data/jetstream/EVENTS/obs/persister/meta.inf.tmp: no space left on device",
        "open /data/jetstream/EVENTS: too many open files",
        "input/output error",
        "context deadline exceeded",
        "",
    ],
)
@pytest.mark.parametrize("err_code", [10012, 10052])
def test_a_fault_of_the_server_is_waited_out(err_code: int, description: str) -> None:
    assert not is_final(refusal(err_code, description))


@pytest.mark.parametrize(
    "description",
    [
        "deliver policy can not be updated",
        "can not update push consumer to pull based",
        "consumer max waiting needs to be positive: invalid",
        "duplicates window can not be larger then max age",
        "first sequence in mirror is not supported",
    ],
)
@pytest.mark.parametrize("err_code", [10012, 10052])
def test_an_invalid_configuration_is_final(err_code: int, description: str) -> None:
    assert is_final(refusal(err_code, description))


def test_other_refusals_are_final_unless_servers_are_missing() -> None:
    assert is_final(refusal(10093, "consumer filter subject is not valid", code=400))
    assert not is_final(refusal(10005, "no suitable peers for placement", code=400))
    assert not is_final(TimeoutError())
