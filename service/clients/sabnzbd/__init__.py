"""SABnzbd 3 and later over its HTTP API.

What is said here of its behaviour was seen on 5.0.0RC3; the API is described in the project's wiki,
"API". Every call is a POST, so that the key is in no address and no access log.
"""

from service.clients.sabnzbd.session import SabnzbdSettings

__all__ = ["SabnzbdSettings"]
