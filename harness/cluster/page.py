"""The commands of docs/cluster.md on a bench's machine: word for word, with stubs for what a bench lacks."""

import os
from pathlib import Path
from subprocess import CompletedProcess, run

from harness.docs.generate import blocks_of
from harness.docs.marked import DOCS

PAGE = DOCS / "cluster.md"

_STUBS = {
    "sudo": 'user=root; if [ "$1" = -u ]; then user=$2; shift 2; fi; exec runuser -u "$user" -- "$@"',
    # The packages must be there; a bench installs none.
    "apt-get": 'for name; do case "$name" in install | --*) ;; *) dpkg-query --show "$name" || exit 1 ;; esac; done',
    "systemctl": 'echo "$@" >>"$SYSTEMCTL"',
    "scp": 'for to; do :; done; while [ $# -gt 1 ]; do cp "$1" "$HOMES/${to%:}/"; shift; done',
}


def block(heading: str, number: int = 0, page: Path = PAGE) -> str:
    """Return the commands of a block under a heading, by its number there."""
    _, _, section = page.read_text(encoding="utf-8").partition(f"# {heading}\n")
    return [text for kind, text in blocks_of(section.partition("\n#")[0]) if kind == "sh"][number]


class Page:
    """Runs the page's blocks; each machine has a folder in ``homes``."""

    def __init__(self, homes: Path) -> None:
        self._homes = homes
        self._stubs = homes / "stubs"
        self._stubs.mkdir(parents=True)
        for name, script in _STUBS.items():
            path = self._stubs / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    def run(self, commands: str, folder: str, enter: list[str]) -> list[list[str]]:
        """Run commands in a folder of ``homes`` after the words ``enter``; return what they asked of ``systemctl``."""
        asked = self._homes / f"{folder}-systemctl"
        asked.write_text("")
        environment = os.environ | {
            "PATH": f"{self._stubs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOMES": str(self._homes),
            "SYSTEMCTL": str(asked),
        }
        done: CompletedProcess[str] = run(
            [*enter, "sh", "-ec", f'cd "{self._homes / folder}"\n{commands}'],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return [line.split() for line in asked.read_text().splitlines()]
