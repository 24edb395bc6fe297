"""A session with aria2: its downloads, and the commands that change them."""

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from mediabus.schemas.status import ItemId
from mediabus.service.clients.aria2.files import Doomed, Elsewhere, delete, doomed
from mediabus.service.clients.aria2.observer import LISTS, Observer
from mediabus.service.clients.aria2.rpc import Rpc, rpc_url
from mediabus.service.clients.aria2.states import (
    DUPLICATE,
    KEYS,
    Download,
    File,
    Version,
    led_to,
    newest,
)
from mediabus.service.clients.http import HttpSettings, http_session
from mediabus.service.clients.port import (
    ClientRefused,
    DownloadClient,
    Magnet,
    Observation,
    Source,
    TorrentFile,
)
from mediabus.service.clients.sources import (
    already_present,
    infohashes,
    refused_torrent,
    torrent_for,
)

NOT_DELETED: Final = (
    "aria2 does not delete files. Remove the download without its files, or let mediabus delete"
    " them: if it sees the same files, set sees_files = true, and downloads_dir to their folder"
)


def _is_some_folder(path: str) -> bool:
    """Return whether the path is absolute, and not the root folder."""
    return Path(path).is_absolute() and len(Path(path).parts) > 1 and ".." not in Path(path).parts


class Aria2Settings(HttpSettings, frozen=True, kw_only=True, tag="aria2"):
    """The settings of an aria2.

    ``url`` is the host and port, or the URL of the RPC. ``password`` is the ``rpc-secret``; there
    is no username, and no category.
    """

    protocol = "torrent"

    sees_files: bool = False
    """Whether aria2's paths lead to the same files on this machine, so that mediabus may delete
    them: aria2 never does."""
    downloads_dir: str | None = None
    """The folder below which mediabus deletes files."""

    def __post_init__(self) -> None:
        HttpSettings.__post_init__(self)
        if self.downloads_dir is not None and not _is_some_folder(self.downloads_dir):
            raise ValueError(
                "downloads_dir must be the absolute path of the folder in which aria2 stores"
                f" downloads, and not a root directory, not {self.downloads_dir!r}"
            )

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        async with http_session(rpc_url(self.url), "aria2", self) as http:
            yield Aria2(Rpc(http, self.password), self)


class Aria2:
    """A session with one aria2, opened by ``Aria2Settings.connect``. See ``DownloadClient``."""

    def __init__(self, rpc: Rpc, settings: Aria2Settings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._observing = asyncio.Lock()
        self._observer = Observer(rpc, settings.client_name)

    async def version(self) -> str:
        return (await self._rpc.ask(Version, "getVersion")).version

    async def observe(self) -> Observation:
        async with self._observing:
            return await self._observer.observe()

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent contains its name
        category: str | None,  # noqa: ARG002 - aria2 has no categories
    ) -> ItemId:
        source = torrent_for("aria2", source)
        for item in infohashes(source):
            await self._make_room(item)
        try:
            gid = await self._hand_over(source)
        except ClientRefused as error:
            raise refused_torrent(error) from error
        return await self._accepted(gid)

    async def _hand_over(self, source: Magnet | TorrentFile) -> str:
        """Add the download and return its gid."""
        if isinstance(source, Magnet):
            return await self._rpc.ask(str, "addUri", [source.uri], repeatable=False)
        content = base64.b64encode(source.content).decode()
        return await self._rpc.ask(str, "addTorrent", content, repeatable=False)

    async def _make_room(self, item: ItemId) -> None:
        """Remove a failed download with this id: aria2 cannot resume it, so it starts again.

        Raises:
            ClientRefused: there is such a download, and it has not failed.
        """
        present = await self._find(item)
        if present is None:
            return
        if present.status != "error":
            name = (await self._observer.names_of([present]))[present.gid]
            raise already_present("aria2", name)
        await self._forget(item)

    async def _accepted(self, gid: str) -> ItemId:
        """Return the id of a new download. aria2 accepts a duplicate, which then fails at once."""
        download = await self._rpc.ask(Download, "tellStatus", gid, KEYS)
        if download.error_code == DUPLICATE:
            with contextlib.suppress(ClientRefused):
                await self._rpc.ask(str, "removeDownloadResult", gid)
            raise ClientRefused(f"aria2 already has this download: {download.error_message}")
        return download.item

    async def pause(self, item: ItemId) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout):
                while (download := await self._must_have(item)).status in ("active", "waiting"):
                    with contextlib.suppress(
                        ClientRefused
                    ):  # it is pausing, or was replaced by its successor
                        await self._rpc.ask(str, "forcePause", download.gid)
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise ClientRefused(
                "aria2 has not paused this download in time. Try again later"
            ) from error
        if download.status == "error":
            raise ClientRefused("aria2 cannot pause a failed download")

    async def resume(self, item: ItemId) -> None:
        download = await self._must_have(item)
        if download.status == "error":
            raise ClientRefused("aria2 cannot resume a failed download. Add it again")
        if download.status == "paused":
            await self._rpc.ask(str, "unpause", download.gid)

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        download = await self._find(item)
        doom = None
        if download is not None:
            item = download.item
            doom = await self._doomed(download) if delete_files else None
        await self._forget(item)
        if doom is not None:
            try:
                await asyncio.to_thread(delete, doom)
            except OSError as error:
                raise ClientRefused(
                    f"aria2 removed the download, but not all files could be deleted: {error}"
                ) from error

    async def _doomed(self, download: Download) -> Doomed:
        """Return the files of the download, if mediabus may delete all of them.

        Raises:
            ClientRefused: it may not. Nothing was changed.
        """
        allowed = self._settings.downloads_dir
        if not self._settings.sees_files or not allowed:
            raise ClientRefused(NOT_DELETED)
        files = await self._rpc.ask(list[File], "getFiles", download.gid)
        paths = [file.path for file in files]
        try:
            return await asyncio.to_thread(doomed, allowed, download.dir, paths)
        except (Elsewhere, OSError, ValueError) as error:
            raise ClientRefused(
                f"the files of this download may not be deleted: {error}. downloads_dir is"
                f" {allowed}. Remove the download without its files, or correct the setting"
            ) from error

    async def _forget(self, item: ItemId) -> None:
        """Remove all downloads with this id, and the metadata downloads before them.

        After a restart, aria2 would start them again from the metadata.
        """
        try:
            async with asyncio.timeout(self._settings.timeout):
                while left := with_predecessors(item, await self._listed(item)):
                    live = [it.gid for it in left if it.status in ("active", "waiting", "paused")]
                    done = [it.gid for it in left if it.gid not in live]
                    await self._rpc.ask_many(
                        *(("forceRemove", gid) for gid in live),
                        *(("removeDownloadResult", gid) for gid in [*live, *done]),
                    )
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise ClientRefused(
                "aria2 has not removed this download in time. Try again later"
            ) from error

    async def _must_have(self, item: ItemId) -> Download:
        download = await self._find(item)
        if download is None:
            raise ClientRefused(f"aria2 has no download {item}")
        return download

    async def _find(self, item: ItemId) -> Download | None:
        """Return the download with the id, or its successor."""
        listed = await self._listed(item)
        ones = newest(listed)
        led = led_to(listed)
        return ones.get(item) or next(
            (it for it in ones.values() if item in led.get(it.gid, ())), None
        )

    async def _listed(self, item: ItemId) -> list[Download]:
        """Return all downloads.

        Raises:
            ClientRefused: the item is not an id of aria2.
        """
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{16}", item):
            raise ClientRefused(f"aria2 has no download {item!r}")
        lists = await self._rpc.ask_many(*LISTS)
        return [
            download for each in lists for download in self._rpc.understood(each, list[Download])
        ]


def with_predecessors(item: ItemId, downloads: Sequence[Download]) -> list[Download]:
    """Return the downloads with the id, and their predecessors."""
    led = led_to(downloads)
    same = [it for it in downloads if it.item == item]
    ids = {item}.union(*(led.get(it.gid, ()) for it in same))
    return [it for it in downloads if it.item in ids]
