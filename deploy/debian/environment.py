"""The program's environment in a package: an ordinary virtual environment of /usr/bin/python3.11, without pip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.debian.wheels import PYTHON

HOME = "usr/lib/commonwatt"  # the environment's folder in a package

SITE_PACKAGES = f"{HOME}/lib/python{PYTHON}/site-packages"

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
    (root / HOME / "bin" / "python3").symlink_to(f"/usr/bin/python{PYTHON}")
    launcher = root / HOME / "bin" / "commonwatt"
    launcher.write_text(_LAUNCHER)
    settings = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
    (root / HOME / "pyvenv.cfg").write_text(settings)
    (root / "usr" / "bin").mkdir()
    (root / "usr" / "bin" / "commonwatt").symlink_to("../lib/commonwatt/bin/commonwatt")
    settle(root, epoch)
    _compile(root)
    settle(root, epoch)
    launcher.chmod(0o755)


def _compile(root: Path) -> None:
    """Compile all modules: the first start is fast, and a read-only root does no harm.

    A compiled file is valid for the time of its source, which dpkg keeps.
    """
    words = ["-m", "compileall", "-q", "-s", str(root), "-p", "/", "--invalidation-mode", "timestamp"]
    # The order of sets of constants depends on the seed.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    subprocess.run([sys.executable, *words, str(root / SITE_PACKAGES)], check=True, env=environment)


def settle(root: Path, epoch: int) -> None:
    """Give all files and folders below ``root`` one time, and the modes of installed data."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
