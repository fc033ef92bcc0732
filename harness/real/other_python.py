"""``make tests`` on a bare Debian 13, with its Python 3.13: python -m harness.real.other_python (make soak)."""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.docs.marked import DOCS
from harness.real.debian import bare_root, inside
from harness.real.parts import PARTS, path_of
from harness.takeover.real.namespaces import why_not

PROJECT = DOCS.parent
# What pip needs to find packages on this machine: its settings, and the authorities of the certificates it sees.
_PIP = ("/etc/pip.conf", "/root/.config/pip/pip.conf", "/etc/ssl/certs/ca-certificates.crt")


def main() -> None:
    """Run them, and end as they do."""
    if path_of("mmdebstrap") is None:
        sys.exit(f"the tests on Python 3.13 need mmdebstrap: apt-get install {PARTS['mmdebstrap'][0]}")
    if why := why_not():
        sys.exit(f"the tests on Python 3.13: {why}")
    with TemporaryDirectory(prefix="python-3.13-") as folder:
        root = Path(folder) / "root"
        bare_root("trixie", root, "python3-venv", "make", "ca-certificates", "git")
        for path in map(Path, _PIP):
            if path.exists():
                (root / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root / path.relative_to("/"))
        subprocess.run(["git", "clone", "--quiet", PROJECT, root / "src"], check=True)
        words = ["sh", "-c", "cd /src && python3 --version && make tests"]
        sys.exit(subprocess.run([*inside(root, Path("/dev"), Path("/sys")), *words], check=False).returncode)


if __name__ == "__main__":
    main()
