"""Tasks of a child process, for tests: say something, fail, or wait for an end."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from commonwatt.model.exceptions import StoreError
from commonwatt.runtime.child import work_of_child


def do(task: Mapping[str, object]) -> str:
    """Do a task."""
    if task["do"] == "fail":
        raise StoreError("the disk\nis gone")
    if task["do"] == "wait":
        Path(str(task["pid"])).write_text(str(os.getpid()))
        threading.Event().wait()
    return f"done {task['what']}"


if __name__ == "__main__":
    work_of_child(do)
