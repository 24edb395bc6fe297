"""Run the notifier: a worker for each enabled target."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterable, AsyncIterator

from mediabus.consumers.notifier.settings import NotifierConfig, Target
from mediabus.consumers.notifier.targets.open import open_sender
from mediabus.consumers.notifier.targets.port import Sender
from mediabus.consumers.notifier.worker import Clock, Worker, utc_now
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.process.units import Units
from mediabus.runtime.process.work import Work
from mediabus.runtime.settings_errors import Faults


async def notify(
    bus: Bus, configs: AsyncIterable[NotifierConfig | None], *, clock: Clock = utc_now
) -> None:
    """Deliver the events of all enabled targets until cancelled.

    ``configs`` yields the targets, and all of them again after each change of the settings.

    Raises:
        SettingsError: a target can never get a message.
    """
    async with asyncio.TaskGroup() as tasks:

        async def deliver(unit: _Unit) -> None:
            async with opened(unit.target, unit.config) as sender:
                await Worker(bus, unit.target, sender, unit.config, clock).run()

        units = Units(tasks, deliver, name="notify")
        async for config in configs:
            await units.apply(_units(config) if config else {})


@dataclasses.dataclass(frozen=True)
class _Unit:
    """A target, and how its deliveries are retried."""

    target: Target
    config: NotifierConfig = dataclasses.field(compare=False)  # one for all targets


def _units(config: NotifierConfig) -> dict[str, _Unit]:
    enabled = [target for target in config.targets if target.settings.enabled]
    return {target.name: _Unit(target, config) for target in enabled}


@contextlib.asynccontextmanager
async def opened(target: Target, config: NotifierConfig) -> AsyncIterator[Sender]:
    """Open the sender of a target, and close its connections at the end."""
    sender = open_sender(target.settings, target.secrets, config.allowed)
    try:
        yield sender
    finally:
        await sender.close()


async def check_targets(config: NotifierConfig) -> None:
    """Open the sender of each enabled target, and close it again, without sending anything.

    Raises:
        SettingsError: a target can never get a message.
    """
    faults = Faults()
    for target in config.targets:
        if target.settings.enabled:
            with faults.collected():
                async with opened(target, config):
                    pass
    faults.raise_first()


async def serve_targets(work: Work[NotifierConfig]) -> None:
    """Deliver events until cancelled, as the process `mediabus notify`."""
    await ensure_notifier_bucket(work.bus, work.settings.nats)
    await notify(work.bus, work.configs())
