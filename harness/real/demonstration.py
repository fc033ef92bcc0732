"""The demonstration with forked processes, which start in a hundredth of the time."""

import sys
from unittest.mock import patch

from commonwatt.audit import folder
from commonwatt.cli.main import main as commonwatt
from commonwatt.runtime import supervisor
from harness.real import forks

FORKING = [sys.executable, "-c", "from harness.real.demonstration import main; main()"]
"""The command ``commonwatt`` of a demonstration whose processes are forked."""

TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
count = 2
houses = 4

[[microgrid]]
id = "apt"
kind = "apartment"
buildings = 1
apartments = 4

[[microgrid]]
id = "pub"
kind = "public"
"""
"""A town file with a few microgrids of each kind."""


def main() -> None:
    """Run ``commonwatt``, and fork what it starts."""
    forks.enable()
    parts = patch.object(supervisor, "start_part", lambda part: forks.start(part.command, part.log))
    registration = patch("commonwatt.site.office.subprocess.run", forks.run)
    with parts, registration, patch.object(folder, "_start", forks.start):
        commonwatt()
