"""The download clients that mediabus speaks to: the union of their settings."""

from mediabus.service.clients.aria2 import Aria2Settings
from mediabus.service.clients.deluge import DelugeSettings
from mediabus.service.clients.nzbget import NzbGetSettings
from mediabus.service.clients.qbittorrent import QBittorrentSettings
from mediabus.service.clients.rtorrent import RTorrentSettings
from mediabus.service.clients.sabnzbd import SabnzbdSettings
from mediabus.service.clients.transmission import TransmissionSettings

AnyClientSettings = (
    Aria2Settings
    | DelugeSettings
    | NzbGetSettings
    | QBittorrentSettings
    | RTorrentSettings
    | SabnzbdSettings
    | TransmissionSettings
)
