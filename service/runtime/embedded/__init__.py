"""NATS and PostgreSQL from wheels: what ``mediabus up`` runs where no servers are named."""

from service.runtime.embedded.child import ServerFailed
from service.runtime.embedded.data_dir import data_dir_lock
from service.runtime.embedded.nats_server import embedded_nats
from service.runtime.embedded.postgres_server import embedded_postgres

__all__ = ["ServerFailed", "data_dir_lock", "embedded_nats", "embedded_postgres"]
