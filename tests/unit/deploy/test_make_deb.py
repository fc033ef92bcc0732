"""``make deb``: what it leaves when it is interrupted, and what it says meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from deploy.debian import __main__ as make_deb
from deploy.debian.package import CONTROLLER, Release, build

RELEASE = Release(version="0.2.0", architecture="arm64", epoch=1_700_000_000)


def half(words: list[str], **_: Any) -> None:
    Path(words[-1]).write_text("half")
    raise KeyboardInterrupt


def test_an_interrupted_build_leaves_the_earlier_package_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "dist").mkdir()
    earlier = tmp_path / "dist" / "commonwatt-controller_0.2.0_arm64.deb"
    earlier.write_text("whole")
    monkeypatch.setattr("deploy.debian.package.subprocess.run", half)
    with pytest.raises(KeyboardInterrupt):
        build(CONTROLLER, RELEASE, tmp_path / "tree", tmp_path / "dist")
    assert [(path.name, path.read_text()) for path in (tmp_path / "dist").iterdir()] == [(earlier.name, "whole")]


def test_each_package_is_said_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def built(_: object, release: Release, __: object, folder: Path) -> Path:
        said.append(capsys.readouterr().out)
        path = folder / release.architecture
        path.touch()
        return path

    def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(make_deb, "PROJECT", tmp_path)
    monkeypatch.setattr(make_deb, "build", built)
    monkeypatch.setattr("sys.version_info", (3, 11))
    monkeypatch.setattr("shutil.which", lambda _: "dpkg-deb")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("make_pip", "build_own", "fetch", "unpack"):
        monkeypatch.setattr(make_deb, name, nothing)
    monkeypatch.setattr(make_deb, "finish_tree", lambda _, root, __: root.mkdir(parents=True))
    make_deb.main()
    assert "building the project's wheel" in said[0]
    wanted = [f"{package} for {kind}" for package in ("controller", "utility") for kind in ("amd64", "arm64")]
    for number, (text, name) in enumerate(zip(said, wanted, strict=True), 1):
        assert f"{number} of 4, commonwatt-{name}: compressing" in text
