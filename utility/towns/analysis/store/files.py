"""The files of a town that analysis reads: final exports and open releases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted
from commonwatt.runtime.files import read_object
from utility.exports.store.files import MANIFEST
from utility.research.release import Tier
from utility.towns.analysis.views import VIEWS

_RELEASED = ("sums.csv", "groups.csv")  # the files of an open release


def made_from(folder: Path, view: str) -> tuple[str, str]:
    """Return the SQL that makes a table of a town's files, and the files in words."""
    if view == "open_sums":
        releases = _released(folder / "releases")
        rows = " UNION ALL ".join(_release(name, path) for name, path in releases.items())
        return VIEWS[view].made_from(f"({rows})"), f"{view} of {', '.join(releases)}"
    found = _exported(folder / "exports", view)
    first, last = (path.stem[-7:] for path in (found[0], found[-1]))
    rows = f"read_parquet([{', '.join(map(_text, found))}])"
    return VIEWS[view].made_from(rows), f"{view} of {counted(len(found), 'month')}, {first} to {last}"


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _release(name: str, folder: Path) -> str:
    sums, groups = (f"read_csv({_text(folder / file)}, all_varchar = true)" for file in _RELEASED)
    both = f'{sums} AS sums JOIN {groups} AS groups USING ("group")'
    return f"SELECT {_text(name)} AS release, * FROM {both}"  # noqa: S608 - paths in quotes


def _exported(folder: Path, what: str) -> Sequence[Path]:
    """Return the final files of the whole town's quarter-hours, one a month."""
    found: dict[str, Path] = {}
    for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
        content: Mapping[str, Any] = read_object(manifest, "an export's manifest", "make the export anew")
        export = content.get("export", {})
        is_whole = not any(export.get(selected) for selected in ("meters", "microgrids", "accounts"))
        if (export.get("what"), export.get("resolution"), is_whole) != (what, "15min", True):
            continue
        for path, facts in ((manifest.with_name(name), facts) for name, facts in content["files"].items()):
            if not facts["closed"] or path.suffix != ".parquet":
                continue
            if not path.is_file() or path.stat().st_size != facts["bytes"]:
                raise ConfigError(f"{path}: is not there as {MANIFEST} has it; put it back, or make the export anew")
            if path.name in found:
                raise ConfigError(f"{path}: {found[path.name]} is of the same month; move one of them elsewhere")
            found[path.name] = path
    if not found:
        raise ConfigError(
            f"{folder}: no final month of {what} as Parquet, by quarter-hours, of all meters; a month is final 40 days "
            "after its end, and the job `exports` then writes it"
        )
    return [found[name] for name in sorted(found)]


def _released(folder: Path) -> Mapping[str, Path]:
    """Return the folder of each open release, by its id; data of single homes stays under its agreement."""
    found: dict[str, Path] = {}
    for manifest in sorted(folder.glob("*/datapackage.json")):
        content: Mapping[str, Any] = read_object(manifest, "a release's datapackage.json", "write the release again")
        if content["release"]["tier"] == Tier.OPEN:
            if missing := [name for name in _RELEASED if not manifest.with_name(name).is_file()]:
                raise ConfigError(f"{manifest.with_name(missing[0])}: is missing; write the release again")
            found[content["id"]] = manifest.parent
    if not found:
        raise ConfigError(f"{folder}: no open release; those of single homes are read under their agreement alone")
    return found
