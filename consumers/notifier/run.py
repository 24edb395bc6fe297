"""Run the notifier: a worker for each enabled target."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from mediabus.consumers.notifier.settings import NotifierConfig, Target
from mediabus.consumers.notifier.targets.open import open_sender
from mediabus.consumers.notifier.targets.port import Sender
from mediabus.consumers.notifier.worker import Clock, Worker, utc_now
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.process.work import Work
from mediabus.runtime.settings_errors import Faults


async def notify(bus: Bus, config: NotifierConfig, *, clock: Clock = utc_now) -> None:
    """Deliver the events of all enabled targets until cancelled.

    Raises:
        SettingsError: a target can never get a message.
    """
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for target in config.targets:
            if target.settings.enabled:
                sender = await stack.enter_async_context(opened(target, config))
                worker = Worker(bus, target, sender, config, clock)
                tasks.create_task(worker.run(), name=f"notify {target.name}")
        await asyncio.Event().wait()  # also without a target that is enabled


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
    await notify(work.bus, work.config)
