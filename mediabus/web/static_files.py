"""The style sheets and scripts of the pages, read once."""

import hashlib
from pathlib import Path
from typing import Final

from aiohttp import web

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFiles:
    """Serves the files by name. A file has another address when it changes."""

    def __init__(self) -> None:
        files = [file for file in FOLDER.iterdir() if file.suffix in TYPES]
        self._files = {file.name: (file.read_bytes(), TYPES[file.suffix]) for file in files}
        self._versions = {
            name: hashlib.sha256(content).hexdigest()[:12]
            for name, (content, _) in self._files.items()
        }

    def address(self, name: str) -> str:
        """Return the path of a file below the base."""
        return f"static/{name}?v={self._versions[name]}"

    def serve(self, request: web.BaseRequest, name: str) -> web.Response:
        """Return a file. Raises HTTPNotFound."""
        if name not in self._files:
            raise web.HTTPNotFound(text="there is no such file\n")
        content, content_type = self._files[name]
        is_current = request.query.get("v") == self._versions[name]
        cached = "public, max-age=31536000, immutable" if is_current else "no-cache"
        response = web.Response(body=content, content_type=content_type, charset="utf-8")
        response.headers["Cache-Control"] = cached
        response.enable_compression()
        return response
