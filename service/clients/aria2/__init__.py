"""aria2 over its JSON-RPC. Its WebSocket notifications are not used: they contain less than a poll.

The behavior described here was observed on 1.36. The manual, aria2c(1), describes the RPC.
"""

from mediabus.service.clients.aria2.session import Aria2Settings

__all__ = ["Aria2Settings"]
