"""What a town's controllers cost the person who sets them up: by labels, and by bundles as before 0.4.

Commands and characters are counted, and the commands' own time is measured. The time of typing is reckoned by the
keystroke-level model (Card, Moran and Newell, 1980).
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from commonwatt.identity.devices import digest
from harness.real.deploy import machine_root

KEY_S, RANDOM_KEY_S, THINK_S = 0.28, 0.5, 1.35  # of a usual key, of a random digit, before a command
DIGITS = 64  # of a fingerprint
PACKAGE = "sudo apt-get install ./commonwatt-controller_0.4.0_arm64.deb"
JOINED_BY_FILE = "sudo commonwatt join"
BY_FILE = "cp commonwatt-join.txt /media/boot/firmware/"  # the label's text, on the card
UNPACKED = 3  # controllers whose unpacking is measured

_PROGRAM = [sys.executable, "-m", "commonwatt"]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """A command that a person typed."""

    place: str  # where: a machine's folder
    words: tuple[str, ...]  # its words after ``commonwatt``; ``--root`` is the bench's, no person types it
    took_s: float = 0.0  # seconds until it ended

    @property
    def line(self) -> str:
        """The line as the person types it."""
        words = self.words[: self.words.index("--root")] if "--root" in self.words else self.words
        return " ".join(["sudo commonwatt" if self.place != "office" else "commonwatt", *words])


@dataclass(frozen=True, kw_only=True)
class Way:
    """All that a way costs, for all controllers."""

    office: list[str]  # lines at the office
    controllers: list[str]  # lines at the controllers
    digits: int  # random digits among them, each read aloud by one person and typed by another
    took_s: float  # seconds of our commands

    @property
    def typing_s(self) -> float:
        """Reckoned seconds of typing."""
        lines = [*self.office, *self.controllers]
        return sum(THINK_S + KEY_S * (len(line) + 1) for line in lines) + (RANDOM_KEY_S - KEY_S) * self.digits


def with_bundles(site: Path, names: Sequence[str]) -> Way:
    """Return what the way by bundles costs: its lines are the guide's, its commands are run on a copy of the office."""
    with TemporaryDirectory() as name:
        office = Path(name)
        shutil.copytree(site, office / "site")
        pack_s = _timed([*_PROGRAM, "site", "pack", *names], office)
        authority = digest((site / "authority/ca.pem").read_bytes())
        unpack_s = [
            _timed(
                [*_PROGRAM, "site", "unpack", f"{one}.bundle", "--authority", authority, "--root", f"root-{one}"],
                machine_root(office / f"root-{one}").parent,
            )
            for one in names[:UNPACKED]
        ]
    each = [f"sudo commonwatt site unpack NAME.bundle --authority {authority}", PACKAGE, "rm NAME.bundle"]
    lines = [line.replace("NAME", one) for one in names for line in each]
    carried = [f"scp {one}.bundle pi@10.78.0.101:" for one in names]
    return Way(
        office=[f"commonwatt site pack {' '.join(names)}", *carried],
        controllers=lines,
        digits=DIGITS * len(names),
        took_s=pack_s + mean(unpack_s) * len(names),
    )


def with_labels(effort: Sequence[Effort]) -> Way:
    """Return what the way by labels cost; what both ways need once, the town and the utility, is left out."""
    joins = [one for one in effort if one.words[0] == "join"]
    labels = [one for one in effort if one.words[:2] == ("site", "labels")]
    return Way(
        office=[one.line for one in labels] + [BY_FILE for one in joins if one.line == JOINED_BY_FILE],
        controllers=[line for one in joins for line in (PACKAGE, one.line)],
        digits=0,
        took_s=sum(one.took_s for one in (*labels, *joins)),
    )


def table(effort: Sequence[Effort], before: Way, by_file: int) -> str:
    """Return both ways beside each other."""
    now, number = with_labels(effort), sum(one.words[0] == "join" for one in effort)
    once = [one for one in effort if one.words[0] != "join" and one.words[:2] != ("site", "labels")]
    rows: list[tuple[object, ...]] = [
        ("lines typed at the office", len(before.office), len(now.office)),
        ("lines typed at the controllers, as root", 2 * number, len(now.controllers)),
        ("other lines typed there", number, 0),
        ("characters typed", *(f"{sum(map(len, way.office + way.controllers)):,}" for way in (before, now))),
        ("random digits read aloud and typed", before.digits, now.digits),
        ("minutes of typing (reckoned)", *(f"{way.typing_s / 60:.0f}" for way in (before, now))),
        ("minutes of our commands (measured)", *(f"{way.took_s / 60:.1f}" for way in (before, now))),
        ("files with keys and tokens carried to controllers", number, 0),
        ("labels carried", 0, f"{number} ({by_file} of them as a file)"),
    ]
    lines = [f"| {number} controllers | by bundles | by labels |", "|---|---|---|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    lines.append(f"Both ways, once: {'; '.join(f'{one.line[:60]} ({one.took_s:.1f} s)' for one in once)}")
    return "\n".join(lines)


def _timed(words: list[str], folder: Path) -> float:
    began = time.monotonic()
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return time.monotonic() - began
