"""Makes the package of the installed release again, of its files: for the way back, and as the base of a difference."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_NAME = "commonwatt-controller"
_FIELDS = (  # of its control file, in their order
    *("Package", "Version", "Architecture", "Maintainer", "Installed-Size", "Depends", "Recommends", "Conflicts"),
    *("Section", "Priority", "Description"),
)


def repack(path: Path) -> None:
    """Write the package as it was built, without what postinst compiled."""
    root = path.with_suffix(".tree")
    shutil.rmtree(root, ignore_errors=True)
    try:
        _collect(root)
        # As it was built: all of its files have one time, so that a difference to it fits.
        epoch = max((int(file.lstat().st_mtime) for file in root.rglob("usr/share/doc/*/copyright")), default=0)
        words = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(path)]
        subprocess.run(words, check=True, stdout=sys.stderr, env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch)})
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _said(*command: str) -> list[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def _collect(root: Path) -> None:
    """Copy the installed package's files, and what dpkg keeps of its control files."""
    for name in _said("dpkg-query", "--listfiles", _NAME):
        source, target = Path(name), root / name.lstrip("/.")
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif source.exists():  # Debian can leave out documents.
            shutil.copy2(source, target)
    control = root / "DEBIAN"
    control.mkdir(parents=True)
    for part in ("preinst", "postinst", "prerm", "postrm", "md5sums"):
        shutil.copy2(f"/var/lib/dpkg/info/{_NAME}.{part}", control / part)
    fields = dict(line.partition(": ")[::2] for line in _said("dpkg-query", "--status", _NAME))
    (control / "control").write_text("".join(f"{key}: {fields[key]}\n" for key in _FIELDS))


if __name__ == "__main__":
    repack(Path(sys.argv[1]))
