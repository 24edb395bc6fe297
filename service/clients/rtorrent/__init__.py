"""rTorrent 0.9.8 and later over its XML-RPC.

The behavior described here was observed on 0.9.8 and 0.16.17, or read in the source of 0.16.
"""

from mediabus.service.clients.rtorrent.session import RTorrentSettings

__all__ = ["RTorrentSettings"]
