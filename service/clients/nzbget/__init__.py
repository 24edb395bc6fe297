"""NZBGet 13 and later over its JSON-RPC.

What is said here of its behaviour was seen on 21.0, of later versions read in the source; the API
is described at the project's site, "API reference".
"""

from service.clients.nzbget.session import NzbGetSettings

__all__ = ["NzbGetSettings"]
