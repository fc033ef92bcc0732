"""A gateway fetches a release piece by piece, goes on after a cut, and hands over only what the authority signed."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from commonwatt.care import release as releases
from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.care.installing import INSTALLED, ORDER, PACKAGE, RESULT
from commonwatt.care.release import Manifest
from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.authority import Authority
from commonwatt.protocol.heartbeats import Month
from gateway.upgrade import fetching
from gateway.upgrade.fetching import FETCH, PART, Fetching, is_affordable
from gateway.upgrade.wanted import Ended, Wanted

PIECE = 1000  # bytes of a piece
CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def of_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "architecture", lambda: "amd64")


class Care(CareConnection):
    """The utility's care listener; it cuts the line before some pieces."""

    def __init__(self, offer: dict[str, object], file: bytes) -> None:
        self.offer, self.file = offer, file
        self.cut: Callable[[int], bool] = lambda _: False
        self.asked: list[int] = []
        self.told: dict[str, object] = {}

    def post(self, path: str, content: dict[str, object]) -> dict[str, object]:
        assert path == "/release"
        self.told = content
        return self.offer

    def piece(self, path: str, begin: int) -> bytes:
        assert path == f"/release/{SHA256}"
        if self.cut(len(self.asked)):
            self.asked.append(-1)
            raise CareUnreachable("the line is cut")
        self.asked.append(begin)
        return self.file[begin : begin + PIECE]


class Place:
    """A controller's folder and its utility."""

    def __init__(self, folder: Path, *, signed_by: str = "town") -> None:
        self.root = folder / "root"
        self.root.mkdir()
        town = Authority.create(folder / "town", "Town", 1_000_000)
        other = Authority.create(folder / "other", "Other", 1_000_000)
        text = Manifest(
            package="commonwatt-controller", version="9.0", architecture="amd64", sha256=SHA256, size_bytes=len(CONTENT)
        ).model_dump_json()
        signature = (town if signed_by == "town" else other).signature(releases.PURPOSE, text.encode()).hex()
        self.care = Care({"manifest": text, "signature": signature}, CONTENT)
        self.settings = GatewaySettings.model_construct(
            microgrid="r001",
            store=folder / "gateway.db",
            head_end_ca=folder / "town" / "authority" / "ca.pem",
            care=None,
        )
        self.folder = folder / "upgrade"
        self.wanted = Wanted(id="upgrade-1", release="9.0", sha256=SHA256)

    def steps(self, count: int, month: Month | None = None) -> Ended | None:
        """Do so many steps, each by a gateway that was started again."""
        for _ in range(count):
            if (ended := Fetching(self.settings, self.root, self.care).step(self.wanted, month)) is not None:
                return ended
        return None


def test_pieces_resume_after_each_kill_and_cut_and_are_fetched_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.care.cut = lambda number: number % 2 == 0
    assert place.steps(100) is None
    assert (place.folder / PACKAGE).read_bytes() == CONTENT
    order = json.loads((place.folder / ORDER).read_text())
    assert (order["id"], order["manifest"]) == ("upgrade-1", place.care.offer["manifest"])
    fetched = [begin for begin in place.care.asked if begin >= 0]
    assert fetched == list(range(0, len(place.care.file), PIECE))
    assert not (place.folder / PART).exists()


def test_a_release_of_another_authority_is_refused_before_a_byte_is_fetched(tmp_path: Path) -> None:
    place = Place(tmp_path, signed_by="other")
    ended = place.steps(1)
    assert ended is not None
    assert (ended.result, ended.why) == ("refused", "the signature does not fit")
    assert place.care.asked == []


def test_of_two_packages_its_own_processors_is_asked_for_and_no_other_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    place.wanted = place.wanted.model_copy(update={"sha256": f"{'b' * 64},{place.wanted.sha256}"})
    assert place.steps(100) is None
    assert place.care.told["architecture"] == "amd64"
    assert (place.folder / PACKAGE).read_bytes() == CONTENT
    monkeypatch.setattr(fetching, "architecture", lambda: "arm64")
    (place.folder / ORDER).unlink()
    (place.folder / FETCH).unlink()
    ended = place.steps(1)
    assert ended is not None
    assert ended.why == "the utility offers 9.0 of amd64, for arm64"


@pytest.mark.parametrize("wrong", [{"signature": "no hexadecimal"}, {"signature": None}, {"manifest": "{}"}])
def test_an_offer_that_can_not_be_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    place = Place(tmp_path)
    place.care.offer.update(wrong)
    ended = place.steps(1)
    assert ended is not None
    assert ended.result == "refused"


def test_a_release_that_went_back_for_another_gateway_of_the_machine_is_not_handed_over(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.steps(1)
    os.utime(place.folder / FETCH, (1_000, 1_000))
    result = {"id": "upgrade-9", "version": "9.0", "result": "failed", "why": "went back to 8.0: no verdict"}
    (place.root / RESULT).write_text(json.dumps(result))
    assert place.steps(1) == Ended(id="upgrade-1", result="refused", why="went back to 8.0: no verdict")


@pytest.mark.parametrize("kept", ["", "8.0", "9.0"])
def test_the_installed_release_is_fetched_only_if_its_package_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    place = Place(tmp_path)
    monkeypatch.setattr(fetching, "own_release", lambda: "9.0")
    monkeypatch.setattr(fetching, "version_of", lambda path: kept if path == place.root / INSTALLED else "")
    assert place.steps(100) == (Ended(id="upgrade-1", result="done", why="") if kept == "9.0" else None)
    assert (place.folder / ORDER).exists() == (kept != "9.0")


def test_a_refusal_of_the_utility_is_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)

    def refuse(*_: object) -> dict[str, object]:
        raise CareRefused("there is no such release")

    monkeypatch.setattr(place.care, "post", refuse)
    assert place.steps(1) == Ended(id="upgrade-1", result="refused", why="there is no such release")


def test_the_result_of_roots_unit_is_the_outcome(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.steps(100)
    result = {"id": "upgrade-1", "version": "9.0", "result": "failed", "why": "went back to 8.0: no verdict"}
    (place.root / RESULT).write_text(json.dumps(result))
    (place.folder / ORDER).unlink()
    assert place.steps(1) == Ended(id="upgrade-1", result="refused", why="went back to 8.0: no verdict")
    assert not list(place.folder.iterdir())


def test_a_line_at_risk_fetches_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.steps(10, Month(used=(0, 900), expected=(0, 1_100), allowance=1_000))
    assert place.care.asked == []


def test_a_fetch_takes_at_most_a_quarter_of_what_the_month_leaves() -> None:
    month = Month(used=(0, 100), expected=(0, 600), allowance=1_000)
    assert is_affordable(100, month)
    assert not is_affordable(101, month)
    assert not is_affordable(1, Month(used=(0, 1_001), expected=None, allowance=1_000))
    assert is_affordable(10**9, None)
