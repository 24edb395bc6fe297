"""Read torrent files: their names and infohashes, before they are sent to a client."""

import dataclasses
import functools
import hashlib
import re

from mediabus.schemas.status import ItemId
from mediabus.service.clients.bencode import Span, dictionary, number_in, text_in


@dataclasses.dataclass(frozen=True)
class Torrent:
    """The name and ids of a torrent file.

    ``infohashes`` are the ids under which a client may list it: version 1 first, then version 2
    truncated to 20 bytes, as clients do (BEP 52).
    """

    name: str
    infohashes: tuple[ItemId, ...]


@functools.lru_cache(maxsize=2)  # called at each step from request to client
def parse_torrent(content: bytes) -> Torrent:
    """Read the bytes of a ``.torrent`` file.

    Only files that no client can use or that do harm are rejected: aria2 1.36 exits on a piece
    length of zero, and a name can be a path to another folder. The client validates the rest.

    Raises:
        ValueError: the file cannot be used. The message is for users.
    """
    if content[:1] in (b"l", b"i"):
        raise ValueError("not a torrent file: it has no info dictionary")
    try:
        infos = dictionary(content).get(b"info", ())
        info = next((_Info(content, span) for span in infos), None)
    except ValueError as error:
        raise ValueError(f"not a torrent file: {error}") from error
    if info is None:
        raise ValueError("not a torrent file: it has no info dictionary")
    name = info.text(b"name") or info.text(b"name.utf-8")
    if not name:
        raise ValueError("not a usable torrent file: it has no name")
    if leads_elsewhere(name.decode(errors="replace")):
        raise ValueError("not a usable torrent file: its name leads out of the download's folder")
    hashes = []
    if info.first(b"pieces"):
        info.check_version_1()
        hashes.append(hashlib.sha1(info.content).hexdigest())  # noqa: S324 - the protocol's own
    if info.number(b"meta version") == 2 and info.begins_with(b"file tree", b"d"):
        hashes.append(hashlib.sha256(info.content).hexdigest()[:40])
    if not hashes:
        raise ValueError("not a usable torrent file: it names neither pieces nor a file tree")
    return Torrent(name.decode(errors="replace"), tuple(ItemId(text) for text in hashes))


def leads_elsewhere(name: str) -> bool:
    """Return whether a torrent's name is a path that leaves the download folder.

    Most clients reject or change such a name. Transmission 4.1 keeps ``..``, and deleting the files
    of that torrent deletes files next to its download folder.
    """
    return any(part in (".", "..") for part in re.split(r"[/\\]", name))


class _Info:
    """The info dictionary. The first of duplicate keys counts, as in libtorrent."""

    def __init__(self, content: bytes, span: Span) -> None:
        self.content = content[slice(*span)]
        if not self.content.startswith(b"d"):
            raise ValueError("it has no info dictionary")
        self._spans = dictionary(self.content)

    def first(self, key: bytes) -> Span | None:
        """Return the span of the value of a key."""
        spans = self._spans.get(key)
        return spans[0] if spans else None

    def text(self, key: bytes) -> bytes | None:
        """Return the string of a key; None if it has none."""
        span = self.first(key)
        return text_in(self.content, span) if span else None

    def number(self, key: bytes) -> int | None:
        """Return the number of a key; None if it has none."""
        span = self.first(key)
        return number_in(self.content, span) if span else None

    def begins_with(self, key: bytes, byte: bytes) -> bool:
        """Return whether the value of a key starts with this byte, which is its type."""
        span = self.first(key)
        return span is not None and self.content[span[0] : span[0] + 1] == byte

    def check_version_1(self) -> None:
        """Check the pieces and files of a version 1 torrent (BEP 3).

        Raises:
            ValueError: they are missing or malformed.
        """
        pieces, piece_length = self.text(b"pieces"), self.number(b"piece length")
        if not pieces or len(pieces) % 20:
            raise ValueError("not a usable torrent file: its pieces are not SHA-1 hashes")
        if piece_length is None or piece_length <= 0:
            raise ValueError("not a usable torrent file: it has no piece length")
        if self.number(b"length") is None and not self.begins_with(b"files", b"l"):
            raise ValueError("not a usable torrent file: it names no files")
