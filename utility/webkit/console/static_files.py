"""The files that pages load: our own and vendored ones, in memory, also compressed once they were asked for."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from commonwatt.look.palette import BRAND, stylesheet
from utility.webkit.rights import OPEN

_HERE = Path(__file__).parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_INTER = "inter-latin-wght-normal.woff2"
_FONT = '@font-face { font-family: Inter; src: url(%s) format("woff2"); font-weight: 100 900; font-display: swap; }\n'
_MANIFEST = "app.webmanifest"
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}


@dataclass(frozen=True)
class StaticFile:
    """A file that pages load."""

    content: bytes  # its bytes
    media_type: str  # its type
    version: str  # part of its address, which changes with the content

    @cached_property
    def compressed(self) -> bytes:
        """The same in gzip, made for the first that asks: of all files it would take a twentieth of the start."""
        return gzip.compress(self.content, 9, mtime=0)


@dataclass(frozen=True)
class StaticFiles:
    """All files, by name."""

    files: dict[str, StaticFile]

    def address(self, name: str) -> str:
        """Return the address of a file.

        Raises:
            KeyError: There is none of that name.
        """
        return f"/console/static/{self.files[name].version}/{name}"


@cache
def load_static() -> StaticFiles:
    """Read the files; a process does it once."""
    paths = [*(_HERE / "static").iterdir(), *(_HERE / "vendor").glob("*/*")]
    contents = {path.name: path.read_bytes() for path in sorted(paths) if path.suffix in _TYPES}
    icons = sorted(path for path in paths if path.parent.name.startswith("lucide-"))
    contents["icons.svg"] = _sprite({path.stem: path.read_text() for path in icons if path.suffix == ".svg"})
    files = StaticFiles({name: _loaded(name, content) for name, content in contents.items()})
    files.files["palette.css"] = _loaded("palette.css", (_FONT % files.address(_INTER) + stylesheet()).encode())
    files.files[_MANIFEST] = _loaded(_MANIFEST, _manifest(files.address("icon.svg")))
    return files


def _sprite(icons: Mapping[str, str]) -> bytes:
    """Return one picture with all icons, each as a symbol of its name."""
    symbols = [f'<symbol id="{name}" viewBox="0 0 24 24">{_inside(icon)}</symbol>' for name, icon in icons.items()]
    return f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(symbols)}</svg>'.encode()


def _inside(icon: str) -> str:
    """Return what the file of an icon draws."""
    return icon[icon.index(">", icon.index("<svg")) + 1 : icon.rindex("</svg>")].strip()


def _manifest(icon: str) -> bytes:
    """Return what a phone needs to keep the console as an app."""
    pictures = [{"src": icon, "sizes": "any", "type": _TYPES[".svg"]}]
    names = {"name": "Commonwatt", "short_name": "Commonwatt", "icons": pictures}
    places = {"start_url": "/console/", "scope": "/console/", "display": "standalone"}
    return json.dumps(names | places | {"background_color": "#ffffff", "theme_color": BRAND}).encode()


def _loaded(name: str, content: bytes) -> StaticFile:
    return StaticFile(
        content=content,
        media_type=_TYPES[Path(name).suffix],
        version=hashlib.sha256(content).hexdigest()[:12],
    )


router = APIRouter(include_in_schema=False)


@router.get("/console/static/{version}/{name}", dependencies=[OPEN])
def static_file(request: Request, version: str, name: str) -> Response:
    """Return a file, which browsers keep for ever: its address changes with its content."""
    found = load_static().files.get(name)
    if found is None or found.version != version:
        raise HTTPException(404, "there is no such file; load the page again")
    headers = dict(_FOR_EVER)
    if name == "worker.js":
        headers["Service-Worker-Allowed"] = "/console/"
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, media_type=found.media_type, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
