"""The tests on Python 3.13, in a bare Debian 13 that is made once: python -m harness.real.other_python (make soak).

Its root folder stays in ``.venv``, with the pinned packages and without the programs of real parts. Each run copies the
working tree, has a network of its own, and leaves nothing in the root but compiled modules.
"""

import fcntl
import shlex
import shutil
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.clique.real.namespaces import why_not
from harness.docs.marked import DOCS
from harness.real.packages import bare_root, inside
from harness.real.parts import PARTS, path_of

PROJECT = DOCS.parent
_SUITE, _DEBIAN = "trixie", ("python3-venv", "ca-certificates")
# A run compiles the modules that it is the first to import; the tests need a part of them.
_INSTALL = """cd /src && python3 -m venv /venv &&
    /venv/bin/pip install --quiet --no-compile --no-cache-dir -c constraints.txt -e '.[all,dev]'"""
# What pip needs to find packages on this machine: its settings, and the authorities of the certificates it sees.
_PIP = ("/etc/pip.conf", "/root/.config/pip/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
_VARIABLES = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    # What is tried is Python: not as many random cases as beside it.
    **dict.fromkeys(("EXAMPLES", "METER_EXAMPLES", "GATEWAY_FLIPS", "BYTE_COUNTS"), "5"),
    # A copied file has the time of the original, and a module stays compiled from run to run.
    "PYTHONPYCACHEPREFIX": "/pycache",
}
_TESTS = ("python", "-m", "pytest", "-q", "--dist", "loadscope", "--no-loadscope-reorder", "-m", "smoke or not real")


@contextmanager
def debian_13(*words: str) -> Iterator[list[str]]:
    """Copy the working tree for the time of the context; yield the command that runs its tests.

    Args:
        words: Further words for pytest.
    """
    root = _root()
    with TemporaryDirectory(prefix="python-3.13-") as folder:
        (Path(folder) / "tmp").mkdir()
        _copy_tree(Path(folder) / "src")
        mounts = "".join(f"mount --bind {folder}/{name} {shlex.quote(str(root))}/{name} && " for name in ("src", "tmp"))
        # /sys shows the interfaces of the network in which it is mounted.
        prepare = f"ip link set lo up && {mounts}mount -t sysfs sysfs {shlex.quote(str(root))}/sys"
        own = ["unshare", "--mount", "--net", "sh", "-c", f'{prepare} && exec "$@"', "own"]
        variables = [f"{name}={value}" for name, value in _VARIABLES.items()]
        there = ["env", "-i", "-C", "/src", *variables, *_TESTS, *words]
        yield [*own, *inside(root, Path("/dev")), *there]


def _root() -> Path:
    """Return the root folder; if there is none of the present requirements, remove another one and make it."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    pins = (PROJECT / "constraints.txt").read_text(encoding="utf-8")
    made_of = repr((_SUITE, _DEBIAN, _INSTALL, settings["project"], settings["tool"]["setuptools"], pins))
    root = PROJECT / ".venv" / f"debian-13-{zlib.crc32(made_of.encode()):08x}"
    with (PROJECT / ".venv" / "debian-13.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Another process may be making it.
        if not root.exists():
            for old in root.parent.glob("debian-13-*"):
                shutil.rmtree(old)
            new = root.with_name("debian-13-new")
            _make(new)
            new.rename(root)
    return root


def _make(root: Path) -> None:
    bare_root(_SUITE, root, *_DEBIAN)
    for path in map(Path, _PIP):
        if path.exists():
            (root / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path.relative_to("/"))
    _copy_tree(root / "src")
    done = subprocess.run(
        [*inside(root, Path("/dev")), "sh", "-c", _INSTALL], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    shutil.rmtree(root / "src")
    (root / "src").mkdir()


def _copy_tree(folder: Path) -> None:
    """Copy all files that git does not ignore, as they are now."""
    words = ["git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(words, text=True).split("\0"):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)


def main() -> None:
    """Run all of them, and end as they do."""
    if path_of("mmdebstrap") is None:
        sys.exit(f"the tests on Python 3.13 need mmdebstrap: apt-get install {PARTS['mmdebstrap'][0]}")
    if why := why_not():
        sys.exit(f"the tests on Python 3.13: {why}")
    with debian_13("-n", "2") as command:
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
