"""``commonwatt site upgrade``: what it checks, the commands, and the wait; the machine is a folder."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from commonwatt.cli.main import make_app
from commonwatt.model.exceptions import CommonwattError
from commonwatt.site.bundle import BundleManifest
from commonwatt.site.unpack import INSTALLED, UnpackedLast
from commonwatt.site.upgrade import LOOK_S, WAIT_S, wait

WORKS = "verdict: working\ntimes: UTC\nbacklog age s: 20\n"
ALONE = "verdict: not working: no connection to head_end: refused; see its remedy\nbacklog age s: 20\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's folder, and a ``dpkg-deb`` that says what is in a file."""
    program = tmp_path / "bin" / "dpkg-deb"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ -s "$3" ] && cat "$3"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "new.deb").write_text("commonwatt-controller 0.4.0 arm64")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def unpacked(root: Path, place: str) -> None:
    manifest = BundleManifest(
        place=place, town="Centertown", made=1, version="0.3.0", authority="", mosquitto=False, files={}
    )
    (root / "var/lib/commonwatt").mkdir(parents=True)
    installed = UnpackedLast(manifest=manifest, program="0.3.0")
    (root / "var/lib/commonwatt" / INSTALLED).write_text(installed.model_dump_json())


def upgraded(root: Path, package: str = "new.deb") -> Result:
    words = ["upgrade", str(root.parent / package), "--root", str(root)]
    return CliRunner().invoke(make_app("site"), ["site", *words])


def test_a_controllers_package_is_installed_and_then_its_bundle(root: Path) -> None:
    unpacked(root, "r001")
    done = upgraded(root)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "r001: from version 0.3.0 to 0.4.0",
        "systemd does not run here. To upgrade:",
        f"  apt-get install --yes {root.parent / 'new.deb'}",
        "Next: sudo commonwatt site unpack r001.bundle, packed by the new version at the office",
    ]


def test_the_utilitys_database_is_backed_up_before(root: Path) -> None:
    unpacked(root, "utility")
    (root.parent / "new.deb").write_text("commonwatt-utility 0.4.0 arm64")
    settings = root / "var/lib/commonwatt/utility/utility.toml"
    settings.parent.mkdir()
    settings.write_text('[utility]\ndatabase = "sqlite:///utility.db"\n')
    assert "  systemctl start commonwatt-backup.service\n  apt-get install" in upgraded(root).stdout
    settings.write_text('[utility]\ndatabase = "postgresql+psycopg:///town"\n')
    done = upgraded(root)
    assert (done.exit_code, "set up pgBackRest first, see docs/stores.md" in done.stderr) == (2, True)
    unit = root / "etc/systemd/system/pgbackrest-commonwatt@.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert "  systemctl start pgbackrest-commonwatt@incr.service\n  apt-get install" in upgraded(root).stdout


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "commonwatt-utility 0.4.0 arm64",
            "is commonwatt-utility, but the machine of r001 needs",
        ),
        ("", "is no package, or is damaged; copy it again"),
        ("word", "has no name, version and architecture"),
    ],
)
def test_another_file_is_refused_before_anything_is_changed(root: Path, content: str, told: str) -> None:
    unpacked(root, "r001")
    (root.parent / "new.deb").write_text(content)
    done = upgraded(root)
    assert (done.exit_code, told in done.stderr) == (2, True)


def test_a_machine_without_a_bundle_and_one_with_a_full_disk_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = upgraded(root)
    assert (done.exit_code, "no bundle was unpacked there" in done.stderr) == (2, True)
    unpacked(root, "r001")
    monkeypatch.setattr("commonwatt.site.upgrade.UNPACKED_TIMES", 10**15)
    done = upgraded(root)
    assert (done.exit_code, "are needed; nothing was changed" in done.stderr) == (2, True)


def test_it_waits_until_the_service_works() -> None:
    answers, told = iter(["", ALONE, ALONE, WORKS]), list[str]()
    wait(lambda: next(answers), told.append, look_s=0)
    assert [line.strip() for line in told] == [
        "it does not answer yet",
        "not working: no connection to head_end: refused; see its remedy",
        "working",
    ]


def test_a_service_that_never_works_is_an_error_that_names_what_to_do() -> None:
    answers = iter([ALONE] * int(WAIT_S // LOOK_S))
    with pytest.raises(CommonwattError, match=r"nothing is lost\. Find the cause: commonwatt doctor"):
        wait(lambda: next(answers), lambda _: None, look_s=0)
    assert next(answers, None) is None
