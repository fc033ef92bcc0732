"""Cliques: who may take over for whom, when a controller is lost, and the office's files for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from commonwatt.clique.beats import BEAT_S, FALSE_FOR_S, PATIENT_S, PROBE_S, Beat, Bits, Signs
from commonwatt.clique.cliques import (
    CliqueFile,
    exchanges,
    formed,
    load_cliques,
    orders,
    parties,
    served,
    write_clique_files,
)
from commonwatt.identity.devices import Device, DeviceRole, digest, save_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.topics import UTILITY
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town

SOON_S = BEAT_S + PROBE_S


def kinds(residential: int, apartments: int = 0, public: int = 0) -> dict[str, str]:
    names = {f"r{n:03}": "residential" for n in range(1, residential + 1)}
    names |= {f"a{n:03}": "apartment" for n in range(1, apartments + 1)}
    return names | {f"p{n:03}": "public" for n in range(1, public + 1)}


def test_the_town_has_267_cliques_and_the_public_microgrid_two_backups() -> None:  # req: P1
    town = kinds(800, 1, 1)
    cliques = formed([], town)
    assert (len(cliques), cliques[0], cliques[-1]) == (267, ("r001", "r002", "r003"), ("r799", "r800", "a001"))
    order = orders(cliques, town)
    assert order["r002"] == ("r002", "r003", "r001")
    assert order["p001"] == ("p001", "r800", "r799")
    assert not any("p001" in members for name, members in order.items() if name != "p001")


def test_an_addition_changes_no_clique() -> None:
    cliques = formed([], kinds(6))
    for more in (7, 8):
        order = orders(formed(cliques, kinds(more)), kinds(more))
        assert formed(cliques, kinds(more)) == cliques
        assert order["r007"] == ("r007", "r005", "r006")
    assert formed(cliques, kinds(9)) == (*cliques, ("r007", "r008", "r009"))


def test_small_towns() -> None:
    assert orders(formed([], kinds(2)), kinds(2)) == {"r001": ("r001", "r002"), "r002": ("r002", "r001")}
    assert orders(formed([], kinds(1)), kinds(1)) == {"r001": ("r001",)}


def beating(seconds: float, numbers: list[int] | None = None) -> tuple[Signs, float]:
    """Return the signs of one that beat for so long."""
    signs, now = Signs(["r001"], 0.0), 0.0
    for n in numbers or range(1, int(seconds / BEAT_S) + 1):
        now += BEAT_S
        signs.wake(now)
        signs.sign("r001", now, Beat(number=n))
    return signs, now


def test_a_controller_is_lost_after_a_beat_and_its_probes() -> None:
    signs, now = beating(120)
    line = signs.lines["r001"]
    assert not line.lost(now + SOON_S)
    assert line.lost(now + SOON_S + 0.01)
    assert [signs.lines["r001"].probe_is_due(now + BEAT_S + late) for late in (0.1, 0.3, 0.5, 0.7, 0.95, 1.01)] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
    line.wanted_until = now + BEAT_S + 3
    assert [signs.lines["r001"].probe_is_due(now + BEAT_S + late) for late in (1.1, 1.5, 2.1)] == [True, False, True]


def test_a_line_that_is_new_or_loses_beats_or_was_taken_for_lost_has_longer() -> None:
    for signs, now in (beating(30), beating(120, [n for n in range(1, 60) if n not in (20, 40)])):
        assert signs.lines["r001"].deadline_s(now) == PATIENT_S
    signs, now = beating(120)
    signs.sign("r001", now + 6, Beat(number=99))
    line = signs.lines["r001"]
    assert line.false_until == now + 6 + FALSE_FOR_S
    assert line.deadline_s(now + 6) == PATIENT_S
    signs, now = beating(120)
    signs.sign("r001", now + 6, Beat(number=1, session=b"another"))
    assert signs.lines["r001"].false_until == 0, "it was started again"


def test_who_beat_to_the_utility_alone_was_not_taken_for_lost_when_the_utility_dies() -> None:
    signs, now = beating(120)
    for _ in range(20):
        now += BEAT_S
        signs.wake(now)
        signs.sign("r001", now)  # the utility's answer says that it hears it
    line = signs.lines["r001"]
    signs.wake(now + BEAT_S)
    assert line.lost(now + SOON_S + 1)
    for number in range(37, 37 + 20):
        now += BEAT_S
        signs.wake(now + SOON_S)
        signs.sign("r001", now + SOON_S, Beat(number=number))
    assert (line.false_until, line.deadline_s(now + SOON_S)) == (0, SOON_S)


def test_after_a_pause_of_the_watcher_itself_nobody_counts_as_lost() -> None:
    signs, now = beating(120)
    assert not signs.wake(now + BEAT_S)
    assert signs.wake(now + 60)
    signs.sign("r001", now + 60, Beat(number=37))
    assert signs.lines["r001"].false_until == 0
    assert signs.lines["r001"].steady_s("r001", now + 61) == 1, "it is to be known anew"


def test_beats_that_overtake_each_other_are_not_missing() -> None:
    signs, now = beating(240, [2, 1, 4, 3, *range(5, 70)])
    assert signs.lines["r001"].deadline_s(now) == SOON_S


def test_a_beat_that_a_newer_one_overtook_is_no_sign_and_says_nothing() -> None:
    signs, now = beating(120, [*range(1, 39), 40])
    signs.sign("r001", now + 3, Beat(Bits(leaves=True), number=39))
    line = signs.lines["r001"]
    assert (line.heard, line.back_by, line.misses) == (now, 0.0, 0)


def test_one_that_says_it_stops_is_not_lost_for_two_minutes() -> None:
    signs, now = beating(120)
    signs.sign("r001", now, Beat(Bits(leaves=True), number=40))
    assert not signs.lines["r001"].lost(now + 119)
    assert signs.lines["r001"].lost(now + 121)


def town_of(folder: Path, residential: int, public: int = 0) -> Town:
    text = f'microgrid = [{{id = "r", kind = "residential", count = {residential}, houses = 1}}]\n'
    if public:
        text = text.replace("}]", '}, {id = "p", kind = "public"}]')
    (folder / "town.toml").write_text(text)
    return load_town(folder / "town.toml")


def written(town: Town, out: Path) -> dict[str, CliqueFile]:
    for name in (*town.microgrids, UTILITY):
        (out / name).mkdir(parents=True, exist_ok=True)
    addresses = {name: f"10.0.0.{n}:8885" for n, name in enumerate((*town.microgrids, UTILITY))}
    return {path.parent.name: load_cliques(path) for path in write_clique_files(town, out, addresses)}


def keys(files: dict[str, CliqueFile]) -> dict[tuple[str, str, int], bytes]:
    """Return each key, by whose file it is in, the other one, and the group's size."""
    return {
        (own, party.name, len(file.groups[party.group].members)): party.key
        for own, file in files.items()
        for party in parties(file)
    }


def test_both_sides_of_a_pair_have_the_same_key_and_no_two_pairs_do(tmp_path: Path) -> None:
    found = keys(written(town_of(tmp_path, 7, public=1), tmp_path / "out"))
    for (own, other, size), key in found.items():
        assert found[other, own, size] == key
    assert len(set(found.values())) == len(found) / 2


def test_writing_again_and_adding_microgrids_changes_no_key_of_a_clique(tmp_path: Path) -> None:
    first = keys(written(town_of(tmp_path, 3), tmp_path / "out"))
    assert keys(written(town_of(tmp_path, 3), tmp_path / "out")) == first
    assert first.items() <= keys(written(town_of(tmp_path, 6), tmp_path / "out")).items()
    private = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert private == []


@pytest.mark.parametrize(("residential", "expected"), [(1, 0), (2, 3), (3, 4), (4, 5), (5, 6)])
def test_a_town_of_one_has_no_file_and_any_other_one_for_each_and_the_utility(
    tmp_path: Path, residential: int, expected: int
) -> None:
    assert len(written(town_of(tmp_path, residential), tmp_path / "out")) == expected


def test_no_group_has_more_than_three_controllers_or_microgrids(tmp_path: Path) -> None:
    files = written(town_of(tmp_path, 5, public=1), tmp_path / "out")
    assert [len(files[name].groups) for name in ("r001", "r003", "r004", UTILITY)] == [1, 3, 2, 4]
    for group in (group for file in files.values() for group in file.groups):
        assert len(group.members) <= 3
        assert len(group.orders) <= 3
    order = {name: order for group in files[UTILITY].groups for name, order in group.orders.items()}
    assert exchanges(order) == tuple(group.members for group in files[UTILITY].groups)
    assert served(order, "r003") == ["r001", "r002", "r004", "r005"]
    assert served(order, "r004") == [next(name for name in files if name.startswith("p"))]


def test_a_damaged_list_of_cliques_is_named_and_nothing_is_formed_anew(tmp_path: Path) -> None:
    town = town_of(tmp_path, 3)
    written(town, tmp_path / "out")
    path = tmp_path / "out/cliques.json"
    assert json.loads(path.read_text()) == [["r001", "r002", "r003"]]
    path.write_text("[[")
    with pytest.raises(ConfigError, match="not a list of cliques"):
        written(town, tmp_path / "out")


def test_a_revoked_controller_is_in_no_order_and_comes_back_with_other_keys(tmp_path: Path) -> None:
    town, out = town_of(tmp_path, 3), tmp_path / "out"
    (out / "head-end").mkdir(parents=True)

    def registered(token: bytes, revoked: str = "") -> dict[str, CliqueFile]:
        known = [
            Device(identity=name, role=DeviceRole.GATEWAY, microgrid=name, token_sha256=digest(name.encode()))
            for name in town.microgrids
        ]
        known[1] = replace(known[1], token_sha256=digest(token), revoked=revoked)
        save_devices(out / "head-end/devices.json", known)
        return written(town, out)

    before = keys(registered(b"first"))
    without = registered(b"first", "stolen")
    assert without["r002"].groups == (), "it has nobody's key any more, and nobody has one of it"
    assert without["r001"].groups[0].orders == {
        "r001": ("r001", "r003"),
        "r002": ("r003", "r001"),
        "r003": ("r003", "r001"),
    }
    assert not any("r002" in pair[:2] for pair in keys(without))
    after = keys(registered(b"second"))
    assert {pair for pair in before if before[pair] != after[pair]} == {pair for pair in before if "r002" in pair[:2]}


def test_who_is_left_alone_keeps_its_place_and_the_utility(tmp_path: Path) -> None:
    town, out = town_of(tmp_path, 2), tmp_path / "out"
    (out / "head-end").mkdir(parents=True)
    device = Device(
        identity="r002", role=DeviceRole.GATEWAY, microgrid="r002", token_sha256=digest(b"x"), revoked="stolen"
    )
    save_devices(out / "head-end/devices.json", [device])
    (group,) = written(town, out)["r001"].groups
    assert (group.members, group.orders) == (("r001",), {"r001": ("r001",), "r002": ("r001",)})
    assert [other.name for other in group.others] == [UTILITY]


def test_a_group_that_has_more_microgrids_than_a_beat_has_bits_is_two(tmp_path: Path) -> None:
    town, out = town_of(tmp_path, 5), tmp_path / "out"
    (out / "head-end").mkdir(parents=True)
    stolen = [
        Device(identity=name, role=DeviceRole.GATEWAY, microgrid=name, token_sha256=digest(b"x"), revoked="stolen")
        for name in ("r001", "r004", "r005")
    ]
    save_devices(out / "head-end/devices.json", stolen)
    files = written(town, out)
    groups = files["r002"].groups
    assert [tuple(group.orders) for group in groups] == [("r001", "r002", "r003"), ("r004", "r005")]
    assert {group.members for group in groups} == {groups[0].members}
    assert {party.key for party in parties(files["r002"])} & {party.key for party in parties(files["r003"])} == {
        bytes.fromhex(group.others[0].key) for group in groups
    }
    assert len({group.others[0].key for group in groups}) == 2, "each datagram says by its key of which group it is"


def test_a_second_machine_of_the_utility_is_in_the_files_and_a_town_with_one_has_the_same_file_as_ever(
    tmp_path: Path,
) -> None:
    town, out = town_of(tmp_path, 3), tmp_path / "out"
    before = written(town, out)
    assert "further" not in (out / "r001/clique.json").read_text()
    addresses = {name: f"10.0.0.{n}:8885" for n, name in enumerate((*town.microgrids, UTILITY))}
    write_clique_files(town, out, addresses, ["10.0.0.9:8885"])
    file = load_cliques(out / "r001/clique.json")
    assert {party.name: (party.address, *party.further) for party in parties(file)} == {
        "r002": ("10.0.0.1:8885",),
        "r003": ("10.0.0.2:8885",),
        UTILITY: ("10.0.0.3:8885", "10.0.0.9:8885"),
    }
    assert keys({"r001": file}).items() <= keys(before).items()
    assert load_cliques(out / "utility/clique.json") == before[UTILITY], "both utilities have one file"
