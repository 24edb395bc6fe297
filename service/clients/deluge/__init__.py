"""Deluge 2.x over its daemon's own RPC, the one of deluge-gtk and deluge-console.

What is said here of its behaviour was seen on 2.0.3 and read in its source. It pushes an event when
a torrent changes its state; progress it must be asked for.
"""

from service.clients.deluge.session import DelugeSettings

__all__ = ["DelugeSettings"]
