"""The public API, used as another program would use it: each example in its docstrings runs."""

import asyncio
import contextlib
import doctest
import inspect
import io
import textwrap
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest

import mediabus
from mediabus.api.operations import Applications, DeadLetters, Downloads, History, Media
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.schemas.operations.registry import OPERATIONS
from mediabus.wiring.registry import PERSIST, SERVICE
from tests.support.eventually import eventually
from tests.support.library import library

USER = mediabus.Actor("user", "42")
MODULES = {"events", "subjects"}
"""Names of modules: what is in them has docstrings of its own."""


@pytest.fixture
async def running(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A running mediabus, where the settings of the environment lead to."""
    monkeypatch.setenv("MEDIABUS_NATS_URL", settings.nats.url or "")
    async with library(settings, (SERVICE, PERSIST)):
        yield


def documented() -> Iterator[tuple[str, Any]]:
    """The public names that need an example, and the module itself."""
    yield "mediabus", mediabus
    for name in mediabus.__all__:
        if name not in MODULES and name != "__version__":
            yield name, getattr(mediabus, name)
    yield "Bus.publish", mediabus.Bus.publish
    yield "Bus.events", mediabus.Bus.events


DOCUMENTED = dict(documented())


def test_every_public_name_exists_and_nothing_else_is_shown() -> None:
    assert dir(mediabus) == sorted(mediabus.__all__)
    assert all(hasattr(mediabus, name) for name in mediabus.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mediabus.nothing


@pytest.mark.parametrize("name", DOCUMENTED)
@pytest.mark.usefixtures("running")
async def test_the_example_of_a_public_name_runs(name: str) -> None:
    docstring = inspect.getdoc(DOCUMENTED[name]) or ""
    examples = doctest.DocTestParser().get_examples(docstring)
    assert examples, f"{name} has no example"
    source = "".join(printed(example) for example in examples)
    names: dict[str, Any] = {"mediabus": mediabus, "asyncio": asyncio}
    wrapped = f"async def example():\n{textwrap.indent(source, '    ')}    return locals()\n"
    exec(compile(wrapped, name, "exec"), names)
    wanted = "".join(example.want for example in examples)
    output = io.StringIO()
    # A consumer runs until cancelled; every other example ends by itself.
    ends = contextlib.suppress(TimeoutError) if name == "consume" else contextlib.nullcontext()
    with contextlib.redirect_stdout(output), ends:
        async with asyncio.timeout(2 if name == "consume" else 30):
            await names["example"]()
    assert not wanted or output.getvalue() == wanted


def printed(example: doctest.Example) -> str:
    """The source of an example; one that shows a value prints it."""
    if example.want and "\n" not in example.source.strip():
        return f"print(repr(({example.source.strip()})))\n"
    return example.source


@pytest.mark.usefixtures("running")
async def test_a_program_changes_the_library_and_reads_what_happened() -> None:
    async with mediabus.connect(actor=USER) as bus:
        dune = await bus.media.create(title="Dune", year=2021, tmdb_id=438631)
        await bus.media.update(dune.id, title="Dune: Part One", year=msgspec.UNSET)
        [changed] = await bus.media.set_monitored([dune.id], monitored=False)
        assert (changed.title, changed.monitored) == ("Dune: Part One", False)
        assert (await bus.media.get(dune.id)).title == "Dune: Part One"
        assert [item.id for item in (await bus.media.list(search="part one")).items] == [dune.id]
        assert await bus.media.delete([dune.id]) == [dune.id]

        async def stored() -> list[str] | None:
            page = await bus.history.list(resource_id=str(dune.id))
            return [event.type for event in page.items] if len(page.items) == 4 else None

        assert await eventually(stored) == [
            "media_item.removed",
            "media_item.monitoring_changed",
            "media_item.updated",
            "media_item.added",
        ]
        counts = await bus.history.count(actor_type="user", actor_id="42")
        assert counts.by_type["media_item.added"] == 1
        [event] = (await bus.history.list(type="media_item.added")).items
        assert (await bus.history.get(event.id)).actor_id == "42"
        streamed = [one async for one in bus.events("events.media.>", since="1h", follow=False)]
        assert streamed[0].type == "media_item.added"
        with pytest.raises(ValueError, match="invalid time 'soon'"):
            _ = [one async for one in bus.events(since="soon", follow=False)]


@pytest.mark.usefixtures("running")
async def test_a_refusal_has_the_reason_and_the_field() -> None:
    async with mediabus.connect() as bus:
        with pytest.raises(mediabus.OperationFailed) as missing:
            await bus.media.get(uuid4())
        assert (missing.value.code, missing.value.reason) == (404, "unknown_media_item")
        with pytest.raises(mediabus.OperationFailed) as refused:
            await bus.downloads.initiate(title="Sintel", magnet="magnet:?xt=urn:btih:" + "a" * 40)
        assert "torrent" in str(refused.value)
        for call in (bus.downloads.get, bus.downloads.pause, bus.downloads.resume):
            with pytest.raises(mediabus.OperationFailed):
                await call(uuid4())
        with pytest.raises(mediabus.OperationFailed):
            await bus.downloads.cancel(uuid4(), delete_files=True)
        assert (await bus.downloads.list(state="active")).items == []
        assert (await bus.downloads.list(state=["active", "paused"])).items == []
        with pytest.raises(TypeError, match="needs an actor"):
            await bus.publish(mediabus.events.JobExecuted(job_name="scan"))


@pytest.mark.usefixtures("running")
async def test_a_request_with_an_idempotency_key_happens_once() -> None:
    async with mediabus.connect(actor=USER) as bus:
        first = await bus.media.create(title="Dune", year=2021, idempotency_key="k1")
        again = await bus.media.create(title="Dune", year=2021, idempotency_key="k1")
        assert first == again
        assert len((await bus.media.list()).items) == 1


@pytest.mark.usefixtures("running")
async def test_a_dead_letter_is_listed_read_retried_and_discarded(bus: Bus) -> None:
    await bus.js.publish("events.a.b.c.-", b"nonsense")
    async with mediabus.connect(actor=USER) as program:

        async def arrived() -> bool:
            return (await program.dead_letters.list(consumer="persister", type="b.*")).total == 1

        await eventually(arrived, within=30)
        [letter] = (await program.dead_letters.list()).items
        assert (await program.dead_letters.get(letter.number)).body == "nonsense"
        retried = await program.dead_letters.retry([letter.number, 77])
        assert retried.done == [letter.number]
        assert [failure.number for failure in retried.failed] == [77]
        await eventually(arrived, within=30)
        [again] = (await program.dead_letters.list()).items
        assert (await program.dead_letters.discard([again.number])).done == [again.number]
        assert (await program.dead_letters.list()).items == []


async def test_a_request_without_a_service_fails_at_once(nats_url: str) -> None:
    async with mediabus.connect(nats_url) as bus:
        with pytest.raises(mediabus.NoAnswer, match=r"No service answers media\.list"):
            await bus.media.list()


def test_there_is_a_method_for_every_operation() -> None:
    clients = {
        "media": Media,
        "downloads": Downloads,
        "history": History,
        "dead": DeadLetters,
        "apps": Applications,
    }
    keywords = {"import": "import_history"}
    for operation in OPERATIONS:
        client, _, method = operation.partition(".")
        name = keywords.get(method, method)
        assert callable(getattr(clients[client], name, None)), operation
