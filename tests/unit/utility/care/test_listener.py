"""The care listener: reached by HTTPS of the town's authority alone; releases are served piece by piece."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.care import release as releases
from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.care.release import ReleaseManifest
from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Purpose
from commonwatt.model.exceptions import ConfigError
from commonwatt.site.bundle import JOINS_FILE
from harness.care.certificates import authority, certificate
from harness.network.waiting import free_port
from utility.care.api.listener import CareListener, CareRefusal, CareRequest, Handler
from utility.care.api.routes import Joining
from utility.care.store import offer, piece, publish, release_of, routes_of, withdraw
from utility.fleet.cli import app

FILE = bytes(range(256)) * 1000


def answer(request: CareRequest) -> dict[str, object]:
    if request.content.get("name") != "r001":
        raise CareRefusal("r002 is unknown")
    return {"echo": request.content["name"], "from": request.address}


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[CareListener, CareConnection]]:
    broker = certificate(authority(tmp_path / "town"), Purpose.BROKER, "head-end")
    address = f"127.0.0.1:{free_port()}"
    routes: dict[tuple[str, str], Handler] = {
        ("POST", "join"): answer,
        ("GET", "file"): lambda request: FILE[int(request.rest[0]) :][:65_536],
    }
    made = CareListener(address, broker, routes)
    made.start()
    yield made, CareConnection((f"127.0.0.1:{free_port()}", address), broker.with_name("ca.pem"))
    made.stop()


def test_a_request_goes_to_the_first_address_that_answers(listener: tuple[CareListener, CareConnection]) -> None:
    made, connection = listener
    assert connection.post("/join", {"name": "r001"}) == {"echo": "r001", "from": "127.0.0.1"}
    assert made.counts == {("join", "done"): 1}


def test_a_refusal_comes_with_its_reason_and_is_counted(listener: tuple[CareListener, CareConnection]) -> None:
    made, connection = listener
    with pytest.raises(CareRefused, match="r002 is unknown"):
        connection.post("/join", {"name": "r002"})
    assert made.counts == {("join", "refused"): 1}


def test_what_one_machine_of_the_utility_refuses_the_next_may_grant(
    listener: tuple[CareListener, CareConnection], tmp_path: Path
) -> None:
    made, connection = listener

    def refuse(_: CareRequest) -> dict[str, object]:
        raise CareRefusal("an old bundle\x1b[2J")

    own = connection.ca.with_name("certificate.pem")
    other = CareListener(f"127.0.0.1:{free_port()}", own, {("POST", "join"): refuse})
    other.start()
    first = other._server._address
    both = CareConnection((first, *connection.addresses), connection.ca)
    assert both.post("/join", {"name": "r001"})["echo"] == "r001"
    other.stop()
    made.stop()
    other.start()
    with pytest.raises(CareRefused, match=r"an old bundle\\x1b\[2J"):
        both.post("/join", {"name": "r001"})
    other.stop()


def test_a_damaged_file_of_the_utility_is_said_to_the_controller_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"{'0' * 64}.release").write_text("torn")
    (tmp_path / JOINS_FILE).write_text("{")
    broker = certificate(authority(tmp_path / "town"), Purpose.BROKER, "head-end")
    joins = Joining(tmp_path, lambda use: use, lambda: True, lambda: 1_800_000_000)
    routes: dict[tuple[str, str], Handler] = {("POST", "join"): joins.answer, **routes_of(tmp_path)}
    made = CareListener(f"127.0.0.1:{free_port()}", broker, routes)
    made.start()
    connection = CareConnection((made._server._address,), broker.with_name("ca.pem"))
    asked: dict[str, dict[str, object]] = {
        "join": dict.fromkeys(("code", "signature", "gateway", "broker"), "x"),
        "release": {"sha256": "0" * 64, "architecture": "amd64"},
    }
    for path, content in asked.items():
        with pytest.raises(CareUnreachable, match=r"503 .*a file of the utility .*its log says what to do"):
            connection.post(f"/{path}", content)
    made.stop()
    assert made.counts == {("join", "failed"): 1, ("release", "failed"): 1}
    assert "unpack the utility's bundle again" in caplog.text
    assert "no release file; make it at the office" in caplog.text
    assert "Traceback" not in caplog.text
    assert "unpack the utility's bundle again" in made.refusals("join")[0], "it is an alarm"


def test_what_is_too_large_is_answered_by_no_handler(listener: tuple[CareListener, CareConnection]) -> None:
    made, connection = listener
    with pytest.raises(CareUnreachable):
        connection.post("/join", {"name": "r001" * 20_000})
    assert not made.counts


def test_a_file_comes_in_pieces(listener: tuple[CareListener, CareConnection]) -> None:
    _, connection = listener
    found = b""
    while piece := connection.piece("/file", len(found)):
        found += piece
    assert found == FILE


def test_a_listener_of_another_authority_is_not_trusted(
    listener: tuple[CareListener, CareConnection], tmp_path: Path
) -> None:
    _, connection = listener
    other = certificate(authority(tmp_path / "other"), Purpose.BROKER, "head-end").with_name("ca.pem")
    with pytest.raises(CareUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        CareConnection(connection.addresses, other).post("/join", {"name": "r001"})


@pytest.mark.parametrize("path", ["/status", "/health", "/", "/console", "/releases"])
def test_nothing_else_is_served(listener: tuple[CareListener, CareConnection], path: str) -> None:
    made, connection = listener
    with pytest.raises(CareUnreachable, match="404"):
        connection.piece(path, 0)
    assert made.counts == {("other", "unknown"): 1}


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
    return Authority.create(tmp_path, "Town", 1_000_000)


def fetched(folder: Path, sha256: str) -> tuple[ReleaseManifest, bytes]:
    """Fetch as a controller does."""
    found = offer(folder, {"sha256": f"{'c' * 64},{sha256}", "architecture": "arm64"})
    manifest = ReleaseManifest.model_validate_json(found["manifest"])
    content = b""
    while len(content) < manifest.size_bytes:
        content += piece(folder, CareRequest(address="", rest=(manifest.sha256, str(len(content))), content={}))
    return manifest, content


def test_a_controller_gets_the_package_as_it_was_built(tmp_path: Path, town: Authority) -> None:
    package = make_deb(tmp_path, "0.4.0", os.urandom(300_000))
    made = publish(releases.sign(package, town), tmp_path / "packages", tmp_path / "authority" / "ca.pem")
    assert release_of(tmp_path / "packages", "0.4.0") == ("0.4.0", made.sha256)
    assert fetched(tmp_path / "packages", made.sha256) == (made, package.read_bytes())
    assert made.sha256 == hashlib.sha256(package.read_bytes()).hexdigest()


def test_a_damaged_release_is_not_published(tmp_path: Path, town: Authority) -> None:
    file = releases.sign(make_deb(tmp_path, "0.4.0", b"data"), town)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="is damaged: it has another checksum"):
        publish(file, tmp_path / "packages", tmp_path / "authority" / "ca.pem")
    assert not (tmp_path / "packages").exists()


def test_a_withdrawn_release_is_refused_to_controllers_that_fetch_it(tmp_path: Path, town: Authority) -> None:
    folder, ca, data = tmp_path / "packages", tmp_path / "authority" / "ca.pem", os.urandom(100_000)
    old = publish(releases.sign(make_deb(tmp_path, "0.4.0", data), town), folder, ca)
    bad = publish(releases.sign(make_deb(tmp_path, "0.4.1", data + b"bad"), town), folder, ca)
    asked = {"sha256": bad.sha256, "architecture": "arm64"}
    assert fetched(folder, bad.sha256)[0] == bad
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\npackages = "{folder}"\n')
    done = CliRunner().invoke(app, ["withdraw", "0.4.1", "--config", str(config)])
    assert (done.exit_code, "Next: commonwatt do fleet/rollouts/stop" in done.output) == (0, True), done.output
    with pytest.raises(CareRefusal, match="not any more"):
        piece(folder, CareRequest(address="", rest=(bad.sha256, "0"), content={}))
    with pytest.raises(CareRefusal, match="not any more"):
        offer(folder, asked)
    with pytest.raises(ConfigError, match="is not published"):
        release_of(folder, "0.4.1")
    with pytest.raises(ConfigError, match="is not published"):
        withdraw(folder, "0.4.1")
    assert fetched(folder, old.sha256)[0] == old


def test_what_the_authority_did_not_sign_is_not_published(tmp_path: Path, town: Authority) -> None:
    file = releases.sign(make_deb(tmp_path, "0.4.0", b"data"), town)
    other = Authority.create(tmp_path / "other", "Other", 1_000_000)
    assert other.expires
    with pytest.raises(ConfigError, match="signature does not fit"):
        publish(file, tmp_path / "packages", tmp_path / "other" / "authority" / "ca.pem")
    lines = file.read_bytes().split(b"\n", 2)
    file.write_bytes(b"\n".join([lines[0].replace(b"0.4.0", b"0.4.9"), *lines[1:]]))
    with pytest.raises(ConfigError, match="signature does not fit"):
        publish(file, tmp_path / "packages", tmp_path / "authority" / "ca.pem")


@pytest.mark.parametrize(
    "rest", [(), ("..", "0"), ("a" * 64 + ".release", "0"), ("a" * 64, "-1"), ("a" * 64, "0"), ("../ca.pem", "0")]
)
def test_a_path_to_no_release_is_refused(tmp_path: Path, rest: tuple[str, ...]) -> None:
    with pytest.raises(CareRefusal):
        piece(tmp_path, CareRequest(address="", rest=rest, content={}))
    with pytest.raises(CareRefusal, match="no such release for arm64 is at the utility"):
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
        publish(releases.sign(make_deb(tmp_path, "0.4.0", b"", architecture=name), town), folder, ca)
        for name in ("arm64", "amd64")
    )
    version, both = release_of(folder, "0.4.0")
    assert (version, set(both.split(","))) == ("0.4.0", {one.sha256, other.sha256})
    for each in (one, other):
        found = offer(folder, {"sha256": both, "architecture": each.architecture})
        assert ReleaseManifest.model_validate_json(found["manifest"]) == each
    publish(releases.sign(make_deb(tmp_path, "0.4.0", b"again"), town), folder, ca)
    with pytest.raises(ConfigError, match="two packages of it are published for one processor"):
        release_of(folder, "0.4.0")
