"""The download clients that mediabus speaks to: the union of their settings."""

from service.clients.aria2 import Aria2Settings
from service.clients.deluge import DelugeSettings
from service.clients.nzbget import NzbGetSettings
from service.clients.qbittorrent import QBittorrentSettings
from service.clients.rtorrent import RTorrentSettings
from service.clients.sabnzbd import SabnzbdSettings
from service.clients.transmission import TransmissionSettings

AnyClientSettings = (
    Aria2Settings
    | DelugeSettings
    | NzbGetSettings
    | QBittorrentSettings
    | RTorrentSettings
    | SabnzbdSettings
    | TransmissionSettings
)
