"""Cliques: who may take over for whom, and when a controller is lost."""

from commonwatt.cliques.formation import formed, orders
from commonwatt.cliques.signs import BEAT_S, FALSE_FOR_S, PATIENT_S, PROBE_S, Beat, Bits, Signs

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
