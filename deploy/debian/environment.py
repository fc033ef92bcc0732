"""The program's environment in a package: a virtual environment of /usr/bin/python3, without pip.

Modules are compiled at the installation, by the Python of that machine (``scripts/postinst``).
"""

import os
import shutil
from pathlib import Path

from deploy.debian.wheels import HOME, PYTHONS, SITE_PACKAGES

_UNNEEDED = (
    "**/*.dist-info/RECORD",  # Names files that are removed here.
    "**/*.pyi",
    "**/tests",
    "numpy/_core/_simd.*",  # Of numpy's own tests.
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/distutils",
    "numpy/f2py",
    "numpy/random/lib",
    "zstandard/_cffi.*",  # For PyPy; 12 MB.
    "zstandard/backend_cffi.py",
)
"""What only those need that build on a library, or test it."""

_LAUNCHER = f"""\
#!/{HOME}/bin/python3
import sys
from commonwatt.__main__ import main
sys.exit(main())
"""


def complete(root: Path, epoch: int) -> None:
    """Make an environment of the unpacked wheels below ``root``; the same wheels give the same bytes.

    Args:
        root: The package's root folder, with the wheels' files in ``SITE_PACKAGES``.
        epoch: The modification time of all files, epoch seconds.
    """
    packages = root / SITE_PACKAGES
    for pattern in _UNNEEDED:
        for path in sorted(packages.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (root / HOME / "bin").mkdir()
    (root / HOME / "bin" / "python3").symlink_to("/usr/bin/python3")
    for python in PYTHONS:
        (root / HOME / "lib" / f"python{python}").symlink_to("python3")
    launcher = root / HOME / "bin" / "commonwatt"
    launcher.write_text(_LAUNCHER)
    (root / HOME / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (root / "usr" / "bin").mkdir()
    (root / "usr" / "bin" / "commonwatt").symlink_to("../lib/commonwatt/bin/commonwatt")
    settle(root, epoch)
    launcher.chmod(0o755)


def settle(root: Path, epoch: int) -> None:
    """Give all files and folders below ``root`` one time, and the modes of installed data."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
