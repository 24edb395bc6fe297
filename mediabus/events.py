"""Every event type: ``from mediabus.events import DownloadCompleted``."""

from mediabus.schemas.events import *  # noqa: F403 - all of them, also those added later
