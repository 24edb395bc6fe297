"""Deluge 2.x over its daemon's own RPC, the one of deluge-gtk and deluge-console.

The behavior described here was observed on 2.0.3 and read in its source. Deluge pushes an event
when a torrent changes its state. Progress has to be polled.
"""

from mediabus.service.clients.deluge.session import DelugeSettings

__all__ = ["DelugeSettings"]
