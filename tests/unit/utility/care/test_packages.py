"""The utility serves a release whole, or as a difference to what is installed."""

import os
import shutil
from pathlib import Path

import pytest

from commonwatt.care import release as releases
from commonwatt.care.release import Manifest, assemble
from commonwatt.identity.authority import Authority
from commonwatt.model.exceptions import ConfigError
from utility.care.api.listener import CareRequest, Refused
from utility.care.store.packages import offer, piece, publish, release_of

pytestmark = pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")


def member(name: str, content: bytes) -> bytes:
    head = f"{name:16}{'0':12}{'0':6}{'0':6}{'100644':8}{len(content):<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)


def make_deb(
    folder: Path, version: str, data: bytes, package: str = "commonwatt-controller", architecture: str = "arm64"
) -> Path:
    import io
    import lzma
    import tarfile

    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w") as archive:
        text = f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n".encode()
        info = tarfile.TarInfo("./control")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    path = folder / f"{package}_{version}_{architecture}.deb"
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", lzma.compress(control.getvalue()))]
    members.append(("data.tar.xz", lzma.compress(data)))
    path.write_bytes(b"!<arch>\n" + b"".join(member(*each) for each in members))
    return path


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(releases, "LEVEL", 3)
    return Authority.create(tmp_path, "Town", 1_000_000)


def fetched(folder: Path, sha256: str, base: str | None) -> tuple[Manifest, bytes, bool]:
    """Fetch as a controller does."""
    found = offer(folder, {"sha256": f"{'c' * 64},{sha256}", "base": base, "architecture": "arm64"})
    _, _, name = str(found["path"]).split("/")
    content = b""
    while len(content) < found["size_bytes"]:
        content += piece(folder, CareRequest(address="", rest=(name, str(len(content))), content={}))
    return Manifest.model_validate_json(found["manifest"]), content, found["base"] is not None


def test_a_controller_gets_the_difference_to_its_release_and_else_the_whole(tmp_path: Path, town: Authority) -> None:
    data = os.urandom(300_000)
    folder, ca = tmp_path / "packages", tmp_path / "authority" / "ca.pem"
    said: list[str] = []
    old = publish(releases.sign(make_deb(tmp_path, "0.4.0", data), town), folder, ca, said.append)
    changed = data[:1000] + b"changed" + data[2000:]
    new_deb = make_deb(tmp_path, "0.4.1", changed)
    new = publish(releases.sign(new_deb, town), folder, ca, said.append)
    assert said[1].startswith("from 0.4.0: 0.0")
    assert release_of(folder, "0.4.1") == ("0.4.1", new.sha256)
    base = tmp_path / "installed.deb"
    base.write_bytes(releases.uncompressed(make_deb(tmp_path, "0.4.0", data)))
    for installed in (old.sha256, None, "b" * 64, "../../etc/passwd"):
        manifest, content, is_patch = fetched(folder, new.sha256, installed)
        assert is_patch == (installed == old.sha256)
        assert len(content) < 10_000 or not is_patch
        (tmp_path / "part").write_bytes(content)
        assemble(manifest, tmp_path / "part", base if is_patch else None, tmp_path / "new.deb")
        assert (tmp_path / "new.deb").read_bytes() == releases.uncompressed(new_deb)


def test_what_the_authority_did_not_sign_is_not_published(tmp_path: Path, town: Authority) -> None:
    file = releases.sign(make_deb(tmp_path, "0.4.0", b"data"), town)
    other = Authority.create(tmp_path / "other", "Other", 1_000_000)
    assert other.expires
    with pytest.raises(ConfigError, match="signature does not fit"):
        publish(file, tmp_path / "packages", tmp_path / "other" / "authority" / "ca.pem", print)
    lines = file.read_bytes().split(b"\n", 2)
    file.write_bytes(b"\n".join([lines[0].replace(b"0.4.0", b"0.4.9"), *lines[1:]]))
    with pytest.raises(ConfigError, match="signature does not fit"):
        publish(file, tmp_path / "packages", tmp_path / "authority" / "ca.pem", print)


@pytest.mark.parametrize(
    "rest", [(), ("..", "0"), ("x.release", "0"), ("a" * 64 + ".release", "-1"), ("../ca.pem", "0")]
)
def test_a_path_to_no_release_is_refused(tmp_path: Path, rest: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        piece(tmp_path, CareRequest(address="", rest=rest, content={}))
    with pytest.raises(Refused, match="no such release for arm64"):
        offer(tmp_path, {"sha256": "a" * 64, "architecture": "arm64"})


def test_another_file_is_no_package(tmp_path: Path, town: Authority) -> None:
    (tmp_path / "x.deb").write_bytes(b"!<arch>\nrubbish")
    with pytest.raises(ConfigError, match="is damaged"):
        releases.sign(tmp_path / "x.deb", town)
    with pytest.raises(ConfigError, match="is no package of Commonwatt"):
        releases.sign(make_deb(tmp_path, "1.0", b"", "bash"), town)


def test_a_rollout_of_a_version_names_the_package_of_each_processor(tmp_path: Path, town: Authority) -> None:
    folder, ca = tmp_path / "packages", tmp_path / "authority" / "ca.pem"
    one, other = (
        publish(releases.sign(make_deb(tmp_path, "0.4.0", b"", architecture=name), town), folder, ca, print)
        for name in ("arm64", "amd64")
    )
    version, both = release_of(folder, "0.4.0")
    assert (version, set(both.split(","))) == ("0.4.0", {one.sha256, other.sha256})
    for each in (one, other):
        found = offer(folder, {"sha256": both, "base": None, "architecture": each.architecture})
        assert Manifest.model_validate_json(found["manifest"]) == each
    publish(releases.sign(make_deb(tmp_path, "0.4.0", b"again"), town), folder, ca, print)
    with pytest.raises(ConfigError, match="two packages of it are published for one processor"):
        release_of(folder, "0.4.0")
