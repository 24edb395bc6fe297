"""The faults: what each kind does to whom, and the plan that a seed makes of them."""

import asyncio
import contextlib
import dataclasses
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, NamedTuple

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from chaos import clock
from chaos.load import Load
from chaos.units import Unit
from chaos.verdict import Epoch
from chaos.world import LINKS, NATS, POSTGRES, PROCESSES, World
from schemas.subjects import EVENTS_STREAM
from service.runtime.bus import connect
from service.runtime.database import Pool
from service.runtime.settings import NatsSettings

RELAY: Final = "relay"
"""The service that relays when the fault comes."""

UNITS: Final = (NATS, POSTGRES, RELAY, *PROCESSES)
HOUR: Final = 3600


@dataclasses.dataclass(frozen=True)
class Fault:
    """One of the plan: it begins ``pause`` seconds after the one before, and lasts ``seconds``."""

    number: int
    kind: str
    target: str
    seconds: float
    pause: float


@dataclasses.dataclass
class Stage:
    """What a fault has to do with. An epoch ends each time that JetStream loses its end: afterwards
    its sequences start again."""

    world: World
    load: Load
    pool: Pool
    epochs: list[Epoch] = dataclasses.field(default_factory=list)

    def meant(self, target: str) -> str:
        """Whom a fault hits that comes now."""
        return self.world.relaying().name if target == RELAY else target

    def unit(self, target: str) -> Unit:
        return self.world.units[target]


@contextlib.asynccontextmanager
async def killed(stage: Stage, target: str) -> AsyncIterator[None]:
    """Gone at once, and started again afterwards."""
    unit = stage.unit(target)
    await asyncio.to_thread(unit.kill)
    yield
    unit.start()


@contextlib.asynccontextmanager
async def restarted(stage: Stage, target: str) -> AsyncIterator[None]:
    """Asked to leave, and started again afterwards."""
    unit = stage.unit(target)
    await asyncio.to_thread(unit.stop)
    yield
    unit.start()


@contextlib.asynccontextmanager
async def paused(stage: Stage, target: str) -> AsyncIterator[None]:
    """Stopped in the middle of whatever it does, and going on as if nothing had been."""
    unit = stage.unit(target)
    unit.signal(signal.SIGSTOP)
    yield
    unit.signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def cut(stage: Stage, target: str) -> AsyncIterator[None]:
    """Connections end, and none can be made."""
    link = stage.world.links[target]
    link.cut()
    yield
    link.mend()


@contextlib.asynccontextmanager
async def silenced(stage: Stage, target: str) -> AsyncIterator[None]:
    """Nothing arrives any more, and no connection ends: a cable that is pulled."""
    link = stage.world.links[target]
    link.silence()
    yield
    link.mend()


@contextlib.asynccontextmanager
async def worsened(
    stage: Stage, target: str, *, delay: float = 0.0, loss: float = 0.0
) -> AsyncIterator[None]:
    """So many seconds each way, or such a share of packets that are lost and hold up those behind
    them until they are sent again."""
    link = stage.world.links[target]
    link.delay, link.loss = delay, loss
    yield
    link.mend()


@contextlib.asynccontextmanager
async def full(stage: Stage, target: str) -> AsyncIterator[None]:
    """nats-server never again writes to a stream whose disk was full: it has to be restarted."""
    disk = stage.world.disks[target]
    await asyncio.to_thread(disk.fill)
    yield
    disk.free()
    if target == NATS:
        await asyncio.to_thread(stage.unit(target).stop)
        stage.unit(target).start()


@contextlib.asynccontextmanager
async def misdated(stage: Stage, target: str, *, by: int) -> AsyncIterator[None]:
    """A clock that is set so many seconds off, and right again."""
    await asyncio.to_thread(_move_clock, stage.unit(target), by)
    yield
    await asyncio.to_thread(_move_clock, stage.unit(target), 0)


def _move_clock(unit: Unit, seconds: int) -> None:
    for process in unit.processes():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended
            clock.move(process.pid, seconds)


@contextlib.asynccontextmanager
async def forgetful(stage: Stage, target: str) -> AsyncIterator[None]:
    """An older copy of JetStream's store comes back, and what was acknowledged meanwhile is gone
    before any persister has read it. What is published directly has JetStream's own word and no
    other, so nothing is, meanwhile."""
    unit, store = stage.world.units[target], stage.world.jetstream
    copy = stage.world.folder / "store.copy"
    persisters = [stage.world.units[name] for name in ("persister 1", "persister 2")]
    async with stage.load.without_publishes():
        await asyncio.to_thread(unit.stop)
        await _nothing_is_being_stored(stage.pool)
        for persister in persisters:
            persister.signal(signal.SIGSTOP)
        stored = {row["id"] for row in await stage.pool.fetch("SELECT id FROM events")}
        await asyncio.to_thread(shutil.copytree, store, copy)
        unit.start()
        yield
        await asyncio.to_thread(unit.kill)
        await asyncio.to_thread(shutil.rmtree, store)
        await asyncio.to_thread(shutil.move, copy, store)
        links = [link for name, link in stage.world.links.items() if name.endswith(f" - {NATS}")]
        for link in links:
            link.cut()
        unit.start()
        stage.epochs.append(Epoch(stored, await _last_sequence(stage.world.nats_url)))
        for link in links:
            link.mend()
        for persister in persisters:
            persister.signal(signal.SIGCONT)


async def _last_sequence(nats_url: str) -> int:
    """That of the newest event in the stream, as soon as the server says it."""
    async with connect(NatsSettings(url=nats_url), name="chaos") as bus:
        while True:
            try:
                return int((await bus.js.stream_info(EVENTS_STREAM)).state.last_seq)
            except (NatsError, APIError, TimeoutError):
                await asyncio.sleep(0.1)


STORING: Final = """
SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE '%INSERT INTO events%'
    AND pid <> pg_backend_pid()
"""


async def _nothing_is_being_stored(pool: Pool) -> None:
    """What the persisters held when NATS went away is in ``events``."""
    quiet = 0
    while quiet < 4:
        await asyncio.sleep(0.5)
        quiet = 0 if await pool.fetchval(STORING) else quiet + 1


class Kind(NamedTuple):
    """A kind of fault: how long it lasts at the least and at the most, in seconds, and its share of
    a plan. One that is ``alone`` has no other fault beside it."""

    happens: Callable[[Stage, str], AbstractAsyncContextManager[None]]
    targets: Sequence[str]
    shortest: float
    longest: float
    share: float
    alone: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    "kill -9": Kind(killed, UNITS, 0.1, 3, 5),
    "SIGSTOP": Kind(paused, UNITS, 1, 30, 3),
    "restart": Kind(restarted, UNITS, 0.1, 1, 3),
    "network cut": Kind(cut, LINKS, 1, 15, 2),
    "network silent": Kind(silenced, LINKS, 1, 15, 2),
    "network slow": Kind(partial(worsened, delay=0.25), LINKS, 3, 10, 1),
    "network lossy": Kind(partial(worsened, loss=0.05), LINKS, 3, 10, 1),
    "disk full": Kind(full, (NATS, POSTGRES), 2, 8, 1),
    "clock +1 h": Kind(partial(misdated, by=HOUR), UNITS, 2, 10, 1),
    "clock -1 h": Kind(partial(misdated, by=-HOUR), UNITS, 2, 10, 1),
    "JetStream forgets": Kind(forgetful, (NATS,), 1, 6, 0.7, alone=True),
}


def planned(seed: int, kinds: Sequence[str], opening: Sequence[Fault] = ()) -> Iterator[Fault]:
    """The faults of a seed, after those of an opening, without an end: the same each time."""
    draw = random.Random(seed)
    shares = [KINDS[kind].share for kind in kinds]
    number = len(opening)
    yield from opening
    while True:
        number += 1
        name = draw.choices(kinds, shares)[0]
        kind = KINDS[name]
        # As many short ones as long ones, in orders of magnitude.
        seconds = kind.shortest * (kind.longest / kind.shortest) ** draw.random()
        yield Fault(number, name, draw.choice(kind.targets), seconds, draw.uniform(0, 2))
