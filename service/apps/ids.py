"""Ids that are the same wherever they are made: of events, downloads and stories."""

import datetime
import re
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

NAMESPACE: Final = uuid5(NAMESPACE_URL, "mediabus:apps")

INFOHASH: Final = re.compile("[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}")


def client_item_of(download_id: str | None) -> str | None:
    """Return the id of a download in its client, which has infohashes in lower case."""
    if download_id and INFOHASH.fullmatch(download_id):
        return download_id.lower()
    return download_id or None


def row_event_id(app: str, row_id: int, date: datetime.datetime) -> UUID:
    """Return the id of the event of a row, the same at every read."""
    return uuid5(NAMESPACE, f"{app}|history|{row_id}|{date.isoformat()}")


def import_event_id(app: str, client_item: str, date: datetime.datetime) -> UUID:
    """Return the id of the ``download.imported`` of a download whose first file came at a date."""
    return uuid5(NAMESPACE, f"{app}|imported|{client_item}|{date.isoformat()}")


def download_id_of(client_item: str) -> UUID:
    """Return the id of a download that no download client of mediabus has."""
    return uuid5(NAMESPACE, f"download|{client_item}")


def download_story(client_item: str) -> str:
    """Return the correlation id of a download, unless it continues an older story."""
    return str(download_id_of(client_item))
