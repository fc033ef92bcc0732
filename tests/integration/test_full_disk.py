"""Row 6 of the faults on a real process: a gateway on a small disk that somebody else fills."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site
from tests.support.waiting import eventually

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'
MEBIBYTE = 1024 * 1024
GATEWAY = "r001 gateway"
PARTS = ("head-end", "r001 broker", "utility", "r001 gateway", "r001 meters")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root: a small disk is mounted")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(file: Path) -> None:
    """Take all that is left of a disk."""
    with file.open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(MEBIBYTE)):
                pass
        except OSError:
            return


def test_row_06_a_full_disk(disk: Path, tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=60) as site:
        config = site.layout.part(GATEWAY).config
        config.write_text(config.read_text() + f'store = "{disk / "gateway.db"}"\n')
        site.start(*PARTS)

        def metric(name: str) -> float:
            return site.metric(GATEWAY, f"commonwatt_gateway_{name}")

        accepted, refused = 'puts_total{result="accepted"}', 'puts_total{result="busy"}'
        eventually(lambda: metric(accepted) >= 4)
        eventually(lambda: (disk / "gateway.db.ballast").exists())
        fill(disk / "filler")
        eventually(lambda: metric("refusing_records") == 1)
        assert "records are refused" in site.log(GATEWAY)
        eventually(lambda: metric(refused) >= 4)
        before = metric(accepted)
        outcomes = metric('outcomes_total{result="done"}')
        commits = metric("commits_total")
        eventually(lambda: metric("commits_total") > commits + 2)
        assert metric(accepted) == before, "nothing is acknowledged"
        assert metric('outcomes_total{result="done"}') >= outcomes
        (disk / "filler").unlink()
        eventually(lambda: metric("refusing_records") == 0)
        eventually(lambda: metric(accepted) > before + 4)
        assert metric("store_failures_total") <= 3, "it does not fail again and again"
