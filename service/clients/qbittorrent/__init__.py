"""qBittorrent 4.x and 5.x over its Web API.

What is said here of its behaviour was seen on 4.5.2 and 5.1.0, of 5.2 read in its source; the API
is described in the project's wiki, "WebUI API".
"""

from service.clients.qbittorrent.session import QBittorrentSettings

__all__ = ["QBittorrentSettings"]
