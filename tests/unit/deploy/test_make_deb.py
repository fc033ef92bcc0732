"""``make deb``: what it leaves when it is interrupted, what it says meanwhile, and where the files of wheels go."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from deploy.debian import __main__ as make_deb
from deploy.debian.package import CONTROLLER, Release, build
from deploy.debian.wheels import SITE_PACKAGES, unpack

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


def wheel(path: Path, **files: str) -> Path:
    """Make a wheel of some files; ``__`` in a name stands for a slash."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def test_files_of_a_wheel_go_where_an_installation_puts_them_and_its_programs_nowhere(tmp_path: Path) -> None:
    data = "a-1.0.data__"
    files = {
        f"{data}data__share__man__man1__a.1": "a page",
        f"{data}platlib__a.so": "so",
        f"{data}scripts__a": "program",
    }
    unpack([wheel(tmp_path / "a.whl", a__x="x", **files)], tmp_path / "root")
    found = {str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*") if path.is_file()}
    assert found == {f"{SITE_PACKAGES}/a/x", f"{SITE_PACKAGES}/a.so", "usr/lib/commonwatt/share/man/man1/a.1"}


def test_wheels_of_two_pythons_share_what_is_equal_and_nothing_else(tmp_path: Path) -> None:
    one = wheel(
        tmp_path / "3.11" / "a.whl", **{"a__x.py": "1", "a__x.cpython-311.so": "so", "a.dist-info__WHEEL": "311"}
    )
    other = wheel(
        tmp_path / "3.13" / "a.whl", **{"a__x.py": "1", "a__x.cpython-313.so": "so", "a.dist-info__WHEEL": "313"}
    )
    unpack([one, other], tmp_path / "root")
    found = {path.name for path in (tmp_path / "root" / SITE_PACKAGES / "a").iterdir()}
    assert found == {"x.py", "x.cpython-311.so", "x.cpython-313.so"}
    odd = wheel(tmp_path / "3.13" / "b.whl", a__x_py="1", **{"a__x.py": "2"})
    with pytest.raises(ValueError, match=r"b.whl: its a/x.py differs"):
        unpack([odd], tmp_path / "root")
