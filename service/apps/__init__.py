"""The applications that mediabus reads, one file for each kind."""

from mediabus.service.apps.lidarr import LidarrSettings
from mediabus.service.apps.prowlarr import ProwlarrSettings
from mediabus.service.apps.radarr import RadarrSettings
from mediabus.service.apps.seerr import SeerrSettings
from mediabus.service.apps.sonarr import SonarrSettings

AnyAppSettings = SonarrSettings | RadarrSettings | LidarrSettings | ProwlarrSettings | SeerrSettings
"""The settings of any application, distinguished by ``kind``."""
