"""Which process of a large town serves which microgrid."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.cliques.formation import Clique, formed, orders
from commonwatt.demo.large.placing import FLEET_SOCKETS, TOGETHER, _sockets, placed, spread
from commonwatt.model.units import MicrogridId
from commonwatt.town.loading import WHOLE_TOWN, load_town
from commonwatt.town.town import Town

COLLECTED = """
[[microgrid]]
id = "r"
kind = "residential"
count = 24

[[collectors]]
microgrid = "r001"
controllers = ["r010", "r011", "r012", "r020"]
"""


def orders_of(town: Town) -> dict[MicrogridId, Clique]:
    kinds = {name: one.kind for name, one in town.microgrids.items()}
    return orders(formed((), kinds), kinds)


@pytest.fixture(scope="module")
def whole() -> Town:
    return load_town(WHOLE_TOWN)


def test_the_whole_town_shares_four_brokers_five_hosts_and_four_fleets(whole: Town) -> None:
    places = placed(whole, orders_of(whole))
    assert [len(some) for some in places.brokers] == [201, 201, 200, 200]
    assert [len(some) for some in places.hosts] == [161, 161, 160, 160, 160]
    assert max(len(some) for some in places.hosts) <= TOGETHER
    found = orders_of(whole)
    sockets = [sum(_sockets(whole.microgrids[n], len(found[n])) for n in some) for some in places.fleets]
    assert len(sockets) == 4
    assert all(some <= FLEET_SOCKETS for some in sockets)
    assert sum(sockets) == 17_911 + 16_016, "each meter's own session, and the warm ones"


def test_each_microgrid_has_one_broker_one_host_and_one_fleet(whole: Town) -> None:
    places = placed(whole, orders_of(whole))
    for kind in (places.brokers, places.hosts, places.fleets):
        assert Counter(name for some in kind for name in some) == Counter(list(whole.microgrids))


def test_who_may_manage_a_microgrid_shares_neither_broker_nor_host(whole: Town) -> None:
    found = orders_of(whole)
    places = placed(whole, found)
    for kind in (places.brokers, places.hosts):
        at = {name: number for number, some in enumerate(kind) for name in some}
        for order in found.values():
            assert len({at[name] for name in order}) == len(order), order


def test_a_microgrid_and_its_collectors_have_different_brokers(tmp_path: Path) -> None:
    (path := tmp_path / "town.toml").write_text(COLLECTED)
    town = load_town(path)
    places = placed(town, orders_of(town))
    at = {name: number for number, some in enumerate(places.brokers) for name in some}
    theirs = {"r001", "r002", "r003", "r010", "r011", "r012", "r020"}
    assert len({at[name] for name in theirs}) == len(theirs)


@given(st.lists(st.sets(st.sampled_from("abcdefghij"), min_size=1, max_size=4), max_size=12))
def test_no_two_of_a_group_share_a_place(groups: list[set[str]]) -> None:
    places = spread("abcdefghij", groups, 2)
    assert sorted(name for some in places for name in some) == list("abcdefghij")
    assert all(len(group & set(some)) <= 1 for group in groups for some in places)
