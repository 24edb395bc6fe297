"""The kinds of faults with their targets, and the plan that a seed generates."""

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
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas.subjects import EVENTS_STREAM

RELAY: Final = "relay"
"""Target: the service whose relay holds the lease when the fault begins."""

UNITS: Final = (NATS, POSTGRES, RELAY, *PROCESSES)
HOUR: Final = 3600


@dataclasses.dataclass(frozen=True)
class Fault:
    """A planned fault: it begins ``pause`` seconds after the previous one and lasts ``seconds``."""

    number: int
    kind: str
    target: str
    seconds: float
    pause: float


@dataclasses.dataclass
class Stage:
    """The system that faults act on.

    An epoch ends each time JetStream loses the end of its stream and reuses sequences.
    """

    world: World
    load: Load
    pool: Pool
    epochs: list[Epoch] = dataclasses.field(default_factory=list)

    def resolve(self, target: str) -> str:
        """Return the name of the unit that a fault would hit now."""
        return self.world.relaying().name if target == RELAY else target

    def unit(self, target: str) -> Unit:
        return self.world.units[target]


@contextlib.asynccontextmanager
async def killed(stage: Stage, target: str) -> AsyncIterator[None]:
    """Kill the unit with its children, and start it again afterwards."""
    unit = stage.unit(target)
    await asyncio.to_thread(unit.kill)
    yield
    unit.start()


@contextlib.asynccontextmanager
async def restarted(stage: Stage, target: str) -> AsyncIterator[None]:
    """Stop the unit gracefully, and start it again afterwards."""
    unit = stage.unit(target)
    await asyncio.to_thread(unit.stop)
    yield
    unit.start()


@contextlib.asynccontextmanager
async def paused(stage: Stage, target: str) -> AsyncIterator[None]:
    """Suspend the unit with SIGSTOP, and resume it with SIGCONT."""
    unit = stage.unit(target)
    unit.signal(signal.SIGSTOP)
    yield
    unit.signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def cut(stage: Stage, target: str) -> AsyncIterator[None]:
    """Close all connections, and refuse new ones."""
    link = stage.world.links[target]
    link.cut()
    yield
    link.mend()


@contextlib.asynccontextmanager
async def silenced(stage: Stage, target: str) -> AsyncIterator[None]:
    """Deliver nothing and close nothing, like a network with an unplugged cable."""
    link = stage.world.links[target]
    link.silence()
    yield
    link.mend()


@contextlib.asynccontextmanager
async def worsened(
    stage: Stage, target: str, *, delay: float = 0.0, loss: float = 0.0
) -> AsyncIterator[None]:
    """Delay every chunk by ``delay`` seconds, or lose a share of packets.

    A lost packet holds up those behind it until it is sent again.
    """
    link = stage.world.links[target]
    link.delay, link.loss = delay, loss
    yield
    link.mend()


@contextlib.asynccontextmanager
async def full(stage: Stage, target: str) -> AsyncIterator[None]:
    """Fill the disk of a server, and free it afterwards.

    Restarts nats-server, which does not write to a stream again once its disk was full.
    """
    disk = stage.world.disks[target]
    await asyncio.to_thread(disk.fill)
    yield
    disk.free()
    if target == NATS:
        await asyncio.to_thread(stage.unit(target).stop)
        stage.unit(target).start()


@contextlib.asynccontextmanager
async def misdated(stage: Stage, target: str, *, by: int) -> AsyncIterator[None]:
    """Set the clock of a unit off ``by`` seconds, and correct it afterwards."""
    await asyncio.to_thread(_move_clock, stage.unit(target), by)
    yield
    await asyncio.to_thread(_move_clock, stage.unit(target), 0)


def _move_clock(unit: Unit, seconds: int) -> None:
    for process in unit.processes():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # the process has ended
            clock.move(process.pid, seconds)


@contextlib.asynccontextmanager
async def forgetful(stage: Stage, target: str) -> AsyncIterator[None]:
    """Restore an older copy of the JetStream store, which loses acknowledged events.

    The persisters are suspended, so that none has read them. Direct publishes pause meanwhile: no
    outbox holds their events, so JetStream would really lose them.
    """
    unit, store = stage.world.units[target], stage.world.jetstream
    copy = stage.world.folder / "store.copy"
    persisters = [stage.world.units[name] for name in ("persister 1", "persister 2")]
    async with stage.load.without_publishes():
        await asyncio.to_thread(unit.stop)
        await _wait_until_nothing_is_stored(stage.pool)
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
    """Return the sequence of the newest event, once the server answers."""
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


async def _wait_until_nothing_is_stored(pool: Pool) -> None:
    """Wait until the persisters have stored what they had read before NATS stopped."""
    quiet = 0
    while quiet < 4:
        await asyncio.sleep(0.5)
        quiet = 0 if await pool.fetchval(STORING) else quiet + 1


class Kind(NamedTuple):
    """A kind of fault.

    ``shortest`` and ``longest`` are its duration in seconds, ``share`` its weight in a plan. No
    other fault runs at the same time if it is ``alone``.
    """

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
    """Yield the faults of ``opening``, then those of the seed, without end.

    The same seed gives the same faults.
    """
    draw = random.Random(seed)
    shares = [KINDS[kind].share for kind in kinds]
    number = len(opening)
    yield from opening
    while True:
        number += 1
        name = draw.choices(kinds, shares)[0]
        kind = KINDS[name]
        # Durations are distributed evenly by order of magnitude.
        seconds = kind.shortest * (kind.longest / kind.shortest) ** draw.random()
        yield Fault(number, name, draw.choice(kind.targets), seconds, draw.uniform(0, 2))
