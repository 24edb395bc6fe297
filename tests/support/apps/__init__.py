"""Stand-ins for Sonarr, Radarr, Lidarr, Prowlarr and Seerr.

The applications themselves are .NET and Node.js programs that the tests cannot install. These
servers on loopback have the HTTP API, the webhooks and the quirks that their sources show.
"""

from tests.support.apps.lidarr import Lidarr
from tests.support.apps.prowlarr import Prowlarr
from tests.support.apps.radarr import Radarr
from tests.support.apps.seerr import Seerr
from tests.support.apps.sonarr import Sonarr

__all__ = ["Lidarr", "Prowlarr", "Radarr", "Seerr", "Sonarr"]
