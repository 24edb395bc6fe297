"""What a process works with: open connections and its parsed settings."""

import dataclasses
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.process.http_routes import Routes
from mediabus.runtime.process.live import Live
from mediabus.runtime.settings import Settings

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Work(Generic[Config]):
    """The open connections of a process, and its settings.

    ``config`` is what the process itself parsed of the settings (see the registry).
    """

    bus: Bus
    settings: Settings
    config: Config
    database: Pool | None = None
    """None in a process that needs no database."""
    routes: Routes = dataclasses.field(default_factory=Routes)
    """Where the process adds routes to its HTTP server."""
    announce: Callable[[str], None] | None = None
    """Called once when the pages answer, with lines for the person who started the process. If it
    is None, the lines are printed."""
    live: Live[Config] | None = None
    """What a reload of the settings replaces. Without it, ``config`` stays in force."""

    def configs(self) -> AsyncGenerator[Config]:
        """Yield the configuration in force, and each one that a reload brings, without end."""
        return (self.live or Live(self.config)).values()

    @property
    def pool(self) -> Pool:
        """The connections to PostgreSQL, in a process that needs them."""
        if self.database is None:
            raise RuntimeError("this process has no database: set needs_database in the registry")
        return self.database
