"""The settings that all download clients share."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated, ClassVar

import msgspec

from mediabus.schemas.paths import unsafe_folder
from mediabus.schemas.status import ClientName, Protocol
from mediabus.service.clients.port import DownloadClient

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ClientSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """A ``[[clients]]`` table. Times are in seconds."""

    protocol: ClassVar[Protocol]

    name: Name
    """The name in events and commands. It identifies the downloads of the client."""
    url: str
    """Where mediabus reaches the client."""
    username: str = ""
    """The user, if the client has a login."""
    password: str = ""
    """The password, or the key of the API. A variable or a file can hold it instead."""
    category: str | None = None
    """The category of downloads that mediabus adds, unless the request names another."""
    priority: Annotated[int, msgspec.Meta(ge=0)] = 1
    """A request that names no client goes to the lowest number of its protocol."""
    enabled: bool = True
    """A client that is not enabled is neither watched nor used."""
    poll_active: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    """Seconds between polls while a download is in progress."""
    poll_idle: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 15.0
    """Seconds between polls while no download is in progress."""
    timeout: Annotated[float, msgspec.Meta(gt=0, le=3_600)] = 15.0
    """Seconds for one call."""

    def __post_init__(self) -> None:
        """Reject a category that cannot be a folder name, as requests do."""
        if self.category and (why := unsafe_folder(self.category)):
            raise ValueError(f"category is a folder's name: {why} - at `$.category`")

    @property
    def client_name(self) -> ClientName:
        return ClientName(self.name)

    def connect(self) -> AbstractAsyncContextManager[DownloadClient]:
        """Open a session with the client, and close it on exit. This sends no request."""
        raise TypeError(f"{type(self).__name__} does not implement connect()")
