"""What the settings of every download client have in common."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated, ClassVar

import msgspec

from schemas.status import ClientName, Protocol
from service.clients.port import DownloadClient

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ClientSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """One ``[[clients]]`` table. Times in seconds; the lowest ``priority`` is tried first."""

    protocol: ClassVar[Protocol]

    name: Name
    url: str
    username: str = ""
    password: str = ""
    category: str | None = None
    priority: Annotated[int, msgspec.Meta(ge=0)] = 1
    enabled: bool = True
    poll_active: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    poll_idle: Annotated[float, msgspec.Meta(gt=0)] = 15.0
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 15.0

    @property
    def client_name(self) -> ClientName:
        return ClientName(self.name)

    def connect(self) -> AbstractAsyncContextManager[DownloadClient]:
        """A session with the client, closed on leaving. Asks the client nothing yet."""
        raise TypeError(f"{type(self).__name__} does not say how to connect")
