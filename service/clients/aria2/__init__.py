"""aria2 over its JSON-RPC. Its notices over a WebSocket say less than every look sees.

What is said here of its behaviour was seen on 1.36; the RPC is described in the manual, aria2c(1).
"""

from service.clients.aria2.session import Aria2Settings

__all__ = ["Aria2Settings"]
