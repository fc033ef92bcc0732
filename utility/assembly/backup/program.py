"""A backup as a process of its own; the service's job starts it."""

from collections.abc import Mapping
from pathlib import Path

from commonwatt.runtime.child import work_of_child
from utility.assembly.backup.backup import backup

_CONFIG = Path("utility.toml")  # what errors call the utility's settings file


def make(task: Mapping[str, object]) -> str:
    """Make the backup of the file ``path`` at ``target``; return how many damaged parts it has."""
    return str(backup(Path(str(task["path"])), Path(str(task["target"])), _CONFIG, lambda *_: None))


if __name__ == "__main__":
    work_of_child(make)
