"""NZBGet 13 and later over its JSON-RPC.

The behavior described here was observed on 21.0 and, for later versions, read in the source. The
project's site, "API reference", describes the API.
"""

from mediabus.service.clients.nzbget.session import NzbGetSettings

__all__ = ["NzbGetSettings"]
