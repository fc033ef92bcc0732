"""An upgrade at a gateway: its command, fetching a release piece by piece, and its verdict on itself."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from commonwatt.care import release as releases
from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.care.installing import INSTALLED, ORDER, PACKAGE, RESULT
from commonwatt.care.release import ReleaseManifest
from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.authority import Authority
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.protocol.json_messages import unpack_json
from gateway.care import upgrade
from gateway.care.upgrade import FETCH, FRESH_S, PART, Fetching, GatewayFacts, Meters, is_affordable, verdict
from gateway.events import Upgraded, UpgradeEnded, WantedRelease
from harness.surroundings.gateway import World

SHA = "a" * 64


def ask(world: World, name: str, release: str = "0.4.1") -> list[ControllerOutcome]:
    fields = {"v": 1, "id": name, "cmd": "upgrade", "until": world.now + 600, "release": release, "sha256": SHA}
    sent = world.utility_says("cmd", json.dumps(fields).encode())
    return [unpack_json(ControllerOutcome, each.payload) for each in sent if each.topic == "cw1/r001/u/out"]


def wanted(world: World) -> WantedRelease | None:
    return world.core.utility_commands.upgrade


def test_it_is_taken_once_and_kept_over_a_restart(world: World) -> None:
    assert [one.result for one in ask(world, "upgrade-1")] == ["partial"]
    assert [one.result for one in ask(world, "upgrade-1")] == ["partial"], "the same again is the same command"
    world.crash()
    assert wanted(world) == WantedRelease(id="upgrade-1", release="0.4.1", sha256=SHA)


def test_the_release_that_runs_then_tells_how_it_ended_also_when_it_is_asked_again(world: World) -> None:
    ask(world, "upgrade-1")
    world.crash()
    why = "went back to 0.4.0: no verdict within 10 minutes"
    (sent,) = world.handle(Upgraded(UpgradeEnded(id="upgrade-1", result="refused", why=why)))
    told = unpack_json(ControllerOutcome, sent.payload)
    assert (told.id, told.result, told.reason) == ("upgrade-1", "refused", why)
    world.crash()
    assert wanted(world) is None
    assert ask(world, "upgrade-1") == [told]


def test_a_later_command_takes_the_place_of_an_earlier_one(world: World) -> None:
    ask(world, "upgrade-1")
    first, second = ask(world, "upgrade-2", "0.4.2")
    assert (first.id, first.result, first.reason) == ("upgrade-1", "superseded", "0.4.2 is wanted")
    assert (second.id, second.result) == ("upgrade-2", "partial")
    assert world.handle(Upgraded(UpgradeEnded(id="upgrade-1", result="done"))) == [], "it does not count any more"
    assert wanted(world) == WantedRelease(id="upgrade-2", release="0.4.2", sha256=SHA)


PIECE = 1000  # bytes of a piece
CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def of_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "architecture", lambda: "amd64")


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
        text = ReleaseManifest(
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
        self.wanted = WantedRelease(id="upgrade-1", release="9.0", sha256=SHA256)

    def steps(self, count: int, month: LineMonth | None = None) -> UpgradeEnded | None:
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
    monkeypatch.setattr(upgrade, "architecture", lambda: "arm64")
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
    assert place.steps(1) == UpgradeEnded(id="upgrade-1", result="refused", why="went back to 8.0: no verdict")


@pytest.mark.parametrize("kept", ["", "8.0", "9.0"])
def test_the_installed_release_is_fetched_only_if_its_package_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    place = Place(tmp_path)
    monkeypatch.setattr(upgrade, "own_release", lambda: "9.0")
    monkeypatch.setattr(upgrade, "version_of", lambda path: kept if path == place.root / INSTALLED else "")
    assert place.steps(100) == (UpgradeEnded(id="upgrade-1", result="done", why="") if kept == "9.0" else None)
    assert (place.folder / ORDER).exists() == (kept != "9.0")


def test_a_refusal_of_the_utility_is_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)

    def refuse(*_: object) -> dict[str, object]:
        raise CareRefused("there is no such release")

    monkeypatch.setattr(place.care, "post", refuse)
    assert place.steps(1) == UpgradeEnded(id="upgrade-1", result="refused", why="there is no such release")


def test_the_result_of_roots_unit_is_the_outcome(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.steps(100)
    result = {"id": "upgrade-1", "version": "9.0", "result": "failed", "why": "went back to 8.0: no verdict"}
    (place.root / RESULT).write_text(json.dumps(result))
    (place.folder / ORDER).unlink()
    assert place.steps(1) == UpgradeEnded(id="upgrade-1", result="refused", why="went back to 8.0: no verdict")
    assert not list(place.folder.iterdir())


def test_a_line_at_risk_fetches_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.steps(10, LineMonth(used=(0, 900), expected=(0, 1_100), allowance=1_000))
    assert place.care.asked == []


def test_a_fetch_takes_at_most_a_quarter_of_what_the_month_leaves() -> None:
    month = LineMonth(used=(0, 100), expected=(0, 600), allowance=1_000)
    assert is_affordable(100, month)
    assert not is_affordable(101, month)
    assert not is_affordable(1, LineMonth(used=(0, 1_001), expected=None, allowance=1_000))
    assert is_affordable(10**9, None)


GOOD = GatewayFacts(meters=Meters(served=20, before=20), backlog=40, backlog_age_s=10)


def test_it_is_given_at_the_end_of_the_time_though_all_is_well_at_once() -> None:
    assert verdict(GOOD, GOOD, 600, 479, 600) is None
    assert verdict(GOOD, GOOD, 600, 480, 600) == (True, "")


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (replace(GOOD, meters=Meters(served=17, before=20)), "17 meters are served, 20 were before"),
        (replace(GOOD, backlog_age_s=FRESH_S + 1, backlog=41), "the backlog grew from 40 to 41 parts"),
        (replace(GOOD, bad=frozenset({"store"})), "an alarm of store"),
    ],
)
def test_what_is_worse_than_before_has_until_the_end_and_is_then_named(now: GatewayFacts, why: str) -> None:
    assert verdict(GOOD, now, 600, 480, 600) is None
    assert verdict(GOOD, now, 600, 570, 600) == (False, why)


def test_an_old_backlog_that_shrinks_is_good() -> None:
    first = replace(GOOD, backlog=5_000, backlog_age_s=86_400)
    assert verdict(first, replace(first, backlog=4_000), 600, 480, 600) == (True, "")


def test_a_controller_without_meters_is_good() -> None:
    first = replace(GOOD, meters=Meters(served=0, before=0))
    assert verdict(first, first, 600, 480, 600) == (True, "")


def test_a_release_that_ends_again_and_again_is_bad_though_it_works_in_between() -> None:
    assert verdict(GOOD, GOOD, 15, 570, 600) == (False, "it started 15 s ago")


def test_a_start_that_takes_minutes_is_good() -> None:
    assert verdict(GOOD, GOOD, 310, 480, 600) == (True, "")
