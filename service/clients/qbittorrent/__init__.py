"""qBittorrent 4.x and 5.x over its Web API.

The behavior described here was observed on 4.5.2 and 5.1.0 and, for 5.2, read in the source. The
project's wiki, "WebUI API", describes the API.
"""

from mediabus.service.clients.qbittorrent.session import QBittorrentSettings

__all__ = ["QBittorrentSettings"]
