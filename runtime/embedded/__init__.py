"""Run NATS and PostgreSQL from wheels, for ``mediabus up`` without external servers."""

from mediabus.runtime.embedded.child import ServerFailed
from mediabus.runtime.embedded.data_dir import data_dir_lock
from mediabus.runtime.embedded.nats_server import embedded_nats
from mediabus.runtime.embedded.postgres_server import embedded_postgres

__all__ = ["ServerFailed", "data_dir_lock", "embedded_nats", "embedded_postgres"]
