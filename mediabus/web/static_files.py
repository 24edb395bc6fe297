"""The style sheets and scripts of the pages, read and compressed once."""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFile(NamedTuple):
    """A file, as it is and compressed."""

    content: bytes
    compressed: bytes
    content_type: str


class StaticFiles:
    """Serves the files by name. They have other addresses when one of them changes.

    The version is a folder, so a script imports the others by relative addresses of the same
    version, and a browser keeps all of them.
    """

    def __init__(self) -> None:
        files = sorted(file for file in FOLDER.iterdir() if file.suffix in TYPES)
        self._files = {
            file.name: StaticFile(content, gzip.compress(content, mtime=0), TYPES[file.suffix])
            for file in files
            for content in [file.read_bytes()]
        }
        everything = b"".join(file.content for file in self._files.values())
        self._version = hashlib.sha256(everything).hexdigest()[:12]

    def address(self, name: str) -> str:
        """Return the path of a file below the base. Raises KeyError."""
        self._files[name]
        return f"static/{self._version}/{name}"

    def serve(self, request: web.BaseRequest, path: str) -> web.Response:
        """Return a file. Raises HTTPNotFound.

        During an upgrade, a page of the other version gets this version of its files.
        """
        version, _, name = path.rpartition("/")
        file = self._files.get(name)
        if file is None or not VERSION.fullmatch(version):
            raise web.HTTPNotFound(text="there is no such file\n")
        takes_gzip = "gzip" in request.headers.get("Accept-Encoding", "")
        response = web.Response(
            body=file.compressed if takes_gzip else file.content,
            content_type=file.content_type,
            charset="utf-8",
        )
        if takes_gzip:
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = KEPT if version == self._version else "no-cache"
        return response


VERSION: Final = re.compile("(?:[0-9a-f]{12})?")

KEPT: Final = "public, max-age=31536000, immutable"
"""A version of a file never changes."""
