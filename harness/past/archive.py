"""The archive of a past: its database and its releases, the same bytes each time."""

import io
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import zstandard

from commonwatt.audit.folder import PAST
from commonwatt.demo.past import LEVELS, WINDOW_BYTES
from harness.past.making import DATABASE, Asked

_LEVEL = 19


def write_archive(asked: Asked, out: Path) -> None:
    """Write the archive of a past that was made."""
    packed = asked.folder / "packed.db"
    with closing(sqlite3.connect(asked.folder / DATABASE)) as connection:
        connection.execute("VACUUM INTO ?", (str(packed),))
    (asked.folder / PAST).write_text(json.dumps({"until": asked.span.end}) + "\n")
    releases = (path for path in sorted((asked.folder / "utility" / "releases").rglob("*")) if path.is_file())
    files = {f"utility/{DATABASE}": packed}
    files |= {str(path.relative_to(asked.folder)): path for path in releases}
    files |= {name: asked.folder / name for name in (PAST, LEVELS, "utility/office-key")}
    window_log = WINDOW_BYTES.bit_length() - 1
    parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=window_log, enable_ldm=True)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o600
            with path.open("rb") as file:
                archive.addfile(entry, file)
    out.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(content.getvalue()))
