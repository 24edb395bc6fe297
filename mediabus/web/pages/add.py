"""The page Add: a movie or show for the library, or a download."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from aiohttp import web

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.api.operations import Downloads, Media
from mediabus.web.context import Web, actor_of, redirect
from mediabus.web.forms import MAX_FILE, Upload, submitted
from mediabus.web.notice import Notice

FIELDS: Final = {"magnet": "link", "url": "link", "torrent": "file", "nzb": "file"}
"""The fields of the form for the sources of a request."""

NO_FILE: Final = Upload("", b"")
NZB: Final = re.compile(rb"<nzb[\s>]", re.IGNORECASE)

Texts = Mapping[str, str]


class Form(msgspec.Struct, frozen=True):
    """A form with what the user entered. The error of "" is about the whole form."""

    name: str
    values: Texts = {}
    errors: Texts = {}


class Invalid(Exception):
    """A field of a form cannot be used. ``errors`` has the message of each field."""

    def __init__(self, errors: Texts) -> None:
        super().__init__(", ".join(errors.values()))
        self.errors = errors


async def add(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Show the two empty forms."""
    return _page(context, request)


async def add_media(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Add a movie or show, then lead to its story."""
    form = await submitted(request)
    values = {name: form.text(name) for name in MEDIA_FIELDS}
    try:
        wanted = media_request(values)
        item = await Media(context.bus, actor_of(request)).create(**wanted)
    except (Invalid, OperationFailed, NoAnswer) as error:
        errors, status = _errors(error)
        return _page(context, request, media=Form("media", values, errors), status=status)
    return redirect(context, f"story/media_item/{item.id}")


async def add_download(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Start a download, then lead to its story."""
    form = await submitted(request)
    values = {name: form.text(name) for name in DOWNLOAD_FIELDS}
    file = form.files.get("file", NO_FILE)
    try:
        wanted = download_request(values, file.filename, file.content)
        item = await Downloads(context.bus, actor_of(request)).initiate(**wanted)
    except (Invalid, OperationFailed, NoAnswer) as error:
        errors, status = _errors(error)
        return _page(context, request, download=Form("download", values, errors), status=status)
    return redirect(context, f"story/download/{item.id}")


MEDIA_FIELDS: Final = ("type", "title", "year", "tmdb_id")
DOWNLOAD_FIELDS: Final = ("title", "link", "client", "category")


def media_request(values: Texts) -> dict[str, Any]:
    """Return the arguments of ``media.create``. Raises Invalid."""
    errors = {}
    if not values["title"]:
        errors["title"] = "Enter a title."
    for name, example in (("year", "2021"), ("tmdb_id", "438631")):
        if values[name] and not re.fullmatch(r"[0-9]{1,10}", values[name]):
            errors[name] = f"Enter a number such as {example}."
    if errors:
        raise Invalid(errors)
    numbers = {name: int(values[name]) for name in ("year", "tmdb_id") if values[name]}
    return {"type": values["type"] or "movie", "title": values["title"], **numbers}


def download_request(values: Texts, filename: str = "", content: bytes = b"") -> dict[str, Any]:
    """Return the arguments of ``downloads.initiate``. Raises Invalid."""
    link = values["link"]
    if bool(link) == bool(content):
        message = "Give a link or a file, not both." if link else "Give a magnet link, URL or file."
        raise Invalid({"link": message})
    source = _link(link) if link else _content(content)
    title = values["title"] or _title_of(link, filename)
    if not title:
        raise Invalid({"title": "Enter a title."})
    others = {name: values[name] for name in ("client", "category") if values[name]}
    return {"title": title, **source, **others}


def _link(link: str) -> dict[str, Any]:
    scheme = link.partition(":")[0].lower()
    if scheme == "magnet":
        return {"magnet": link}
    if scheme in {"http", "https"}:
        return {"url": link}
    raise Invalid({"link": "A link starts with magnet:?, https:// or http://."})


def _content(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_FILE:
        raise Invalid({"file": f"The file is larger than {MAX_FILE // 1_000_000} MB."})
    if content.startswith(b"d"):
        return {"torrent": content}
    if NZB.search(content[:4096]):
        return {"nzb": content}
    raise Invalid({"file": "This is neither a .torrent nor an .nzb file."})


def _title_of(link: str, filename: str) -> str:
    """Return the title in a magnet link, or the name of the file."""
    if link:
        names = parse_qs(urlsplit(link).query).get("dn", [""])
        return names[0].strip()[:500]
    return PurePosixPath(filename.replace("\\", "/")).stem.strip()[:500]


def _errors(error: Exception) -> tuple[Texts, int]:
    """Return the messages by field, and the HTTP status."""
    match error:
        case Invalid():
            return error.errors, 400
        case OperationFailed():
            name = error.field or ""
            text = str(error).removeprefix(f"{name}: ")
            return {FIELDS.get(name, name if name in KNOWN else ""): text}, error.code
    return {"": str(error)}, 503


KNOWN: Final = frozenset((*MEDIA_FIELDS, *DOWNLOAD_FIELDS, "file"))


def _page(
    context: Web,
    request: web.BaseRequest,
    *,
    media: Form | None = None,
    download: Form | None = None,
    status: int = 200,
    notice: Notice | None = None,
) -> web.StreamResponse:
    return context.render(
        request,
        "add.html",
        status=status,
        page="add",
        notice=notice,
        media=media or Form("media"),
        download=download or Form("download"),
        clients=context.clients,
    )
