"""Names what the real tests need and this machine lacks: ``python -m harness.real.missing`` (make test-real)."""

import os
import sys

from harness.real.home_assistant import NEEDED, python
from harness.real.packages import HISTORY, has_history
from harness.real.parts import PARTS, path_of


def main() -> None:
    """Name it in one line, with the command that installs programs; in CI end with 1."""
    packages = {package for program, (package, _) in PARTS.items() if path_of(program) is None}
    others = [] if os.geteuid() == 0 else ["the rights of root"]
    others += [] if has_history() else [HISTORY]
    others += [] if python() else [NEEDED]
    if not packages and not others:
        return
    install = f"; install: sudo apt-get install {' '.join(sorted(packages))}" if packages else ""
    print(f"Tests are skipped for want of {', '.join([*sorted(packages), *others])}{install}", file=sys.stderr)
    sys.exit(1 if os.environ.get("CI") else 0)


if __name__ == "__main__":
    main()
