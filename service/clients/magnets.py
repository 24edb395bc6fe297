"""Magnet links: the torrents that they name, and the form that every client accepts."""

import base64
import binascii
import re
import urllib.parse
from typing import Final

from mediabus.schemas.status import ItemId

SHA256_MULTIHASH: Final = "1220"  # function 0x12, 32 bytes: the prefix of a btmh (BEP 9)

BLANKS: Final = " \t\r\n\f\v\0\u00a0\u200b\u2060\ufeff\u2028\u2029"
"""Characters around a copied link that are stripped."""

CONTROLS: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
"""Line breaks and control characters. A client may read a second line as a second URL."""


def usable_magnet(uri: str) -> str:
    """Return the link in the form that every client accepts.

    Surrounding blanks are stripped; blanks and non-ASCII characters inside are percent-encoded.

    Raises:
        ValueError: the text is not a magnet link, or contains control characters.
    """
    link = uri.strip(BLANKS)
    if not link.lower().startswith("magnet:?"):
        raise ValueError("not a magnet link: it must begin with magnet:?")
    if CONTROLS.search(link):
        raise ValueError("not a usable magnet link: it contains a line break or control character")
    try:
        return re.sub(r"[^!-~]+", lambda match: urllib.parse.quote(match[0]), link)
    except UnicodeEncodeError as error:
        raise ValueError("not a usable magnet link: it is not valid Unicode") from error


def parse_magnet(uri: str) -> tuple[ItemId, ...]:
    """Return the infohashes of a magnet link: version 1 first, then version 2 cut to 20 bytes.

    Raises:
        ValueError: the link is not a usable BitTorrent magnet link.
    """
    _, _, query = usable_magnet(uri).partition("?")
    topics = [
        value
        for key, value in urllib.parse.parse_qsl(query)
        if re.fullmatch(r"xt(\.\d+)?", key, re.IGNORECASE)
    ]
    version_1 = [topic[9:] for topic in topics if topic.lower().startswith("urn:btih:")]
    version_2 = [topic[9:] for topic in topics if topic.lower().startswith("urn:btmh:")]
    if not version_1 + version_2:
        raise ValueError("not a BitTorrent magnet link: it has no xt=urn:btih:… or xt=urn:btmh:…")
    return (*map(_btih, version_1), *map(_btmh, version_2))


def _btih(text: str) -> ItemId:
    if re.fullmatch(r"[0-9a-fA-F]{40}", text):
        return ItemId(text.lower())
    try:
        if len(text) == 32:
            return ItemId(base64.b32decode(text.upper()).hex())
    except binascii.Error as error:
        raise ValueError(f"not a usable magnet link: {text!r} is not base32") from error
    raise ValueError(
        f"not a usable magnet link: {text!r} is not an infohash (40 hex or 32 base32 digits)"
    )


def _btmh(text: str) -> ItemId:
    if not re.fullmatch(SHA256_MULTIHASH + "[0-9a-fA-F]{64}", text):
        raise ValueError(f"not a usable magnet link: {text!r} is not a SHA-256 multihash")
    return ItemId(text[4:44].lower())
