"""Long work in a process of its own: it ends with what it is asked, and with the process that asked."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commonwatt.model.exceptions import StoreError
from commonwatt.runtime.child import in_child
from harness.network.waiting import become, eventually

TASKS = "harness.child_tasks"


def has_ended(pid: int) -> bool:
    """Return whether a process is gone, or a zombie of somebody else."""
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_work_returns_its_line_or_its_error() -> None:
    assert asyncio.run(in_child(TASKS, {"do": "say", "what": "ümlaut"})) == "done ümlaut"
    with pytest.raises(StoreError, match=r"^the disk is gone$"):
        asyncio.run(in_child(TASKS, {"do": "fail"}))


def test_work_is_done_where_a_sandbox_forbids_another_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sandboxed_tasks.py").write_text(
        "import os\n"
        "from commonwatt.runtime.child import work_of_child\n"
        "from harness.child_tasks import do\n"
        "def refuse(_): raise PermissionError(1, 'Operation not permitted')\n"
        "os.nice = refuse\n"
        "work_of_child(do)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    assert asyncio.run(in_child("sandboxed_tasks", {"do": "say", "what": "so"})) == "done so"


def test_work_ends_at_once_when_the_service_stops(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def play() -> None:
        working = asyncio.create_task(in_child(TASKS, {"do": "wait", "pid": str(file)}))
        await become(lambda: file.exists() and file.read_text())
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(play())
    assert has_ended(int(file.read_text()))


def test_work_ends_when_the_service_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = (
        "import asyncio; from commonwatt.runtime.child import in_child; "
        f"asyncio.run(in_child({TASKS!r}, {{'do': 'wait', 'pid': {str(file)!r}}}))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as service:
        eventually(lambda: file.exists() and file.read_text())
        os.kill(service.pid, signal.SIGKILL)
    pid = int(file.read_text())
    eventually(lambda: has_ended(pid))
