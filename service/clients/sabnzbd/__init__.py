"""SABnzbd 3 and later over its HTTP API.

The behavior described here was observed on 5.0.0RC3. The project's wiki, "API", describes the API.
Every call is a POST, so that neither URLs nor access logs contain the key.
"""

from mediabus.service.clients.sabnzbd.session import SabnzbdSettings

__all__ = ["SabnzbdSettings"]
