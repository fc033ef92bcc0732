"""Run the utility by its real command, and kill it while it handles a form.

``main`` takes WHEN run --config FILE. The process kills itself by SIGKILL at the first form of the console that changes
something: ``before`` the commit, with the change and its audit entry written, or ``after`` it, before the answer.
"""

import os
import signal
import sys
from typing import Any

from commonwatt.cli.main import main as commonwatt
from utility.access.store import audit_log
from utility.webkit.console.console import Console


def _die(*_arguments: Any, **_options: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Patch the utility and run its command."""
    dies_before = sys.argv[1] == "before"
    record = audit_log.record

    def recorded(*arguments: Any, **options: Any) -> None:
        record(*arguments, **options)
        if dies_before:
            _die()
        Console.page = _die  # type: ignore[method-assign]

    audit_log.record = recorded
    sys.argv = ["commonwatt", "utility", *sys.argv[2:]]
    commonwatt()
