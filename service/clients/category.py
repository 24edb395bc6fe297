"""The category of a download, which clients use as the name of a folder."""

from mediabus.schemas.paths import unsafe_folder
from mediabus.service.clients.port import ClientRefused


def checked_category(program: str, category: str | None) -> str | None:
    """Return the category, or None if it is empty.

    Raises ClientRefused, without asking the client, if the category could lead outside the folder
    of downloads.
    """
    if category and (why := unsafe_folder(category)):
        raise ClientRefused(f"{program} cannot use the category {category!r}: {why}")
    return category or None
