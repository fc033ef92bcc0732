"""The site file as the setup pages change it: what a person places is what `site init` then makes."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from adapters.core import foreign_meter
from adapters.mapping.readers import readers_of
from commonwatt.config.adapter import AdapterSettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.site.draft import SiteDraft, watts_of
from commonwatt.site.places import load_site, part_files
from harness.foreign.discoveries import SITE

FLOW = ["register", "through"]


def card(preset: str, source: str, channel: str = "0", **facts: Any) -> dict[str, Any]:
    """Return a discovered device."""
    bare = {"name": source, "incoming": FLOW, "outgoing": [], "level_percent": None, "share": None, "reduce": None}
    return bare | {"meter": {"preset": preset, "source": source, "channel": channel}, "rules": []} | facts


def grid(source: str, *, both: bool = True) -> dict[str, Any]:
    return card("dsmr", source, outgoing=FLOW if both else [])


ENDS = {"topic": "W/x", "ends": "watchdog", "ends_s": 60}
BATTERY = card("victron", "c0619ab0/battery/512", "276", level_percent=64.0, outgoing=FLOW, share=ENDS)
SUN = card("tasmota", "roof")
PLUG = card("tasmota", "washer", reduce=ENDS | {"ends_s": 180})


@pytest.fixture
def draft(tmp_path: Path) -> SiteDraft:
    (tmp_path / "site.toml").write_text(SITE)
    return SiteDraft(tmp_path)


def adapter_of(folder: Path) -> AdapterSettings:
    """Return the adapter's settings as `site init` makes them."""
    site, town = load_site(folder / "site.toml")
    (keys,) = (part.keys for part in part_files(site, town) if part.part == "adapter")
    return AdapterSettings.model_validate(dict(keys))


def types_of(folder: Path) -> dict[int, set[RecordType]]:
    """Return the record types that the adapter makes for each meter, each of which the town must have."""
    settings = adapter_of(folder)
    readers = readers_of(settings)
    made = {meter.id: set(foreign_meter("street", meter, readers).record_types) for meter in settings.meter}
    _, town = load_site(folder / "site.toml")
    assert made == {meter.id: set(meter.record_types) for meter in town.meters}
    return made


def test_a_home_has_a_meter_for_each_direction_and_its_sun_and_battery_are_of_the_outgoing_one(
    draft: SiteDraft, tmp_path: Path
) -> None:
    draft.describe(name="Sunny Lane", timezone="Europe/Vienna", currency="EUR", language="de")
    draft.use_broker("street", address="192.168.1.20", user="mqtt", password="secret")
    # In any order: the grid meter comes last here.
    draft.place("street", BATTERY, home="Home 1", role="battery", capacity_wh=10_000, told=("share",))
    draft.place("street", SUN, home="Home 1", role="sun")
    draft.place("street", grid("p1"), home="Home 1", role="grid")
    draft.place("street", PLUG, home="Home 1", role="load", told=("reduce",))
    draft.save()
    outgoing = {RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH, RecordType.REGISTER}
    assert list(types_of(tmp_path).values()) == [
        outgoing,
        {RecordType.THROUGH, RecordType.REGISTER},
        {RecordType.REGISTER},
    ]
    settings = adapter_of(tmp_path)
    assert settings.meter[0].preset == "dsmr"
    assert [(d.preset, d.counts, d.obeys) for d in settings.meter[0].also] == [
        ("tasmota", "generation", ()),
        ("victron", "level", ("share",)),
    ]
    assert settings.source[0].address == "192.168.1.20:1883"
    assert (tmp_path / "street" / "source.password").read_text() == "secret\n"
    again = SiteDraft(tmp_path)
    assert [(one.title, one.role, one.home) for one in again.devices("street")] == [
        ("p1", "grid", "Home 1"),
        ("roof", "sun", "Home 1"),
        ("c0619ab0/battery/512", "battery", "Home 1"),
        ("washer", "load", "Home 1"),
    ]
    assert len(again.devices("street")[0].meters) == 2
    assert list(again.homes("street")) == ["Home 1", "Home 2"]
    assert (again.town["name"], again.town["timezone"], again.town["language"]) == ("Sunny Lane", "Europe/Vienna", "de")


def test_a_second_battery_of_a_home_has_a_meter_of_its_own(draft: SiteDraft, tmp_path: Path) -> None:
    draft.place("street", grid("p1"), home="Home 1", role="grid")
    draft.place("street", BATTERY, home="Home 1", role="battery", capacity_wh=10_000, told=("share",))
    second = card("evcc", "evcc", level_percent=20.0, share=ENDS)
    draft.place("street", second, home="Home 1", role="battery", capacity_wh=5_000)
    draft.save()
    assert [meter.capacity_wh for meter in adapter_of(tmp_path).meter] == [None, 10_000, 5_000]
    assert list(types_of(tmp_path).values())[2] == {RecordType.STORED}


def test_batteries_share_only_after_a_person_said_so_and_those_without_an_end_never(
    draft: SiteDraft, tmp_path: Path
) -> None:
    draft.place("street", BATTERY, home="Home 1", role="battery", capacity_wh=10_000, told=("share",))
    other = card("evcc", "evcc", level_percent=20.0)
    draft.place("street", other, home="Home 2", role="battery", capacity_wh=5_000)
    assert not draft.is_sharing("street")
    draft.share("street", on=True)
    draft.save()
    _, town = load_site(tmp_path / "site.toml")
    assert [meter.shares for meter in town.meters] == [True, False]
    again = SiteDraft(tmp_path)
    assert again.is_sharing("street")
    again.share("street", on=False)
    assert not again.is_sharing("street")


@pytest.mark.parametrize(
    ("given", "how", "why"),
    [
        (BATTERY, {"role": "battery"}, "needs its capacity"),
        (SUN, {"role": "battery", "capacity_wh": 5_000}, "shows no level"),
        (BATTERY | {"share": None}, {"role": "battery", "capacity_wh": 5_000, "told": ("share",)}, "Nothing ends it"),
        (SUN, {"role": "sun", "told": ("share",)}, "Only a battery"),
        (card("tasmota", "x", incoming=[]), {"role": "grid"}, "neither energy nor power"),
        (card("tasmota", "x", incoming=["through"]), {"role": "load"}, "no total"),
        (grid("new"), {"role": "grid"}, "has a grid meter already"),
        (grid("p1"), {"role": "grid", "home": "Home 2"}, "is in Home 1 already"),
        (SUN, {"role": "roof"}, "choose what it measures"),
        (SUN, {"role": "sun", "home": " "}, "its name is empty"),
    ],
)
def test_what_can_not_be_is_refused_with_a_sentence(
    draft: SiteDraft, given: dict[str, Any], how: dict[str, Any], why: str
) -> None:
    draft.place("street", grid("p1"), home="Home 1", role="grid")
    with pytest.raises(ConfigError, match=why):
        draft.place("street", given, **{"home": "Home 1"} | how)


def test_two_batteries_on_one_inverter_are_refused_and_nothing_is_written(draft: SiteDraft, tmp_path: Path) -> None:
    draft.place("street", BATTERY, home="Home 1", role="battery", capacity_wh=10_000, told=("share",))
    same = card("victron", "c0619ab0/battery/513", "276", level_percent=30.0, share=ENDS)
    draft.place("street", same, home="Home 2", role="battery", capacity_wh=10_000, told=("share",))
    with pytest.raises(ConfigError, match=r"^1000002: meter 1000001 obeys the same command at W/c0619ab0/vebus/276"):
        draft.save()
    assert (tmp_path / "site.toml").read_text() == SITE


def test_an_exchanged_device_keeps_home_role_and_meter_and_begins_anew(draft: SiteDraft, tmp_path: Path) -> None:
    draft.place("street", grid("p1"), home="Home 1", role="grid")
    (before,) = draft.devices("street")
    draft.exchange("street", before.key, grid("p2"), 1_790_000_000)
    draft.save()
    assert SiteDraft(tmp_path).devices("street")[0].meters == before.meters
    exchanged = [meter.exchanged for meter in adapter_of(tmp_path).meter]
    assert all(one is not None and one.timestamp() == 1_790_000_000 for one in exchanged)
    with pytest.raises(ConfigError, match="both directions"):
        draft.exchange("street", draft.devices("street")[0].key, grid("p3", both=False), 1_790_000_100)


def test_a_removed_device_leaves_the_rest_of_its_home_and_its_id_is_never_used_again(
    draft: SiteDraft, tmp_path: Path
) -> None:
    draft.place("street", grid("p1"), home="Home 1", role="grid")
    draft.place("street", BATTERY, home="Home 1", role="battery", capacity_wh=10_000, told=("share",))
    keys = {one.role: one.key for one in draft.devices("street")}
    assert draft.remove("street", keys["battery"]).role == "battery"
    assert draft.gone == []
    draft.save()
    assert list(types_of(tmp_path).values()) == [{RecordType.THROUGH, RecordType.REGISTER}] * 2
    (tmp_path / "street").mkdir(exist_ok=True)
    (tmp_path / "street" / "meter-tokens.json").write_text('{"1000001": "a", "1000002": "b"}')
    draft.remove("street", keys["grid"])
    assert draft.gone == [1_000_001, 1_000_002]
    draft.save()
    assert tomllib.loads((tmp_path / "site.toml").read_text())["microgrid"][0]["adapter"]["meter"] == []
    draft.place("street", grid("p1"), home="Home 1", role="grid")
    assert draft.devices("street")[0].meters == (1_000_003, 1_000_004)
    with pytest.raises(ConfigError, match="not placed any more"):
        draft.remove("street", "dsmr gone 0")


def test_a_home_is_renamed_unless_another_has_the_name(draft: SiteDraft) -> None:
    draft.place("street", grid("p1"), home="Home 1", role="grid")
    draft.place("street", grid("p2"), home="Home 2", role="grid")
    draft.rename("street", "Home 1", "Miller")
    assert list(draft.homes("street")) == ["Miller", "Home 2", "Home 3"]
    with pytest.raises(ConfigError, match="Another home"):
        draft.rename("street", "Home 2", "Miller")
    draft.remove("street", "dsmr p1 0")
    assert {name: len(devices) for name, devices in draft.homes("street").items()} == {"Home 2": 1, "Home 3": 0}


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("192.168.1.20", "192.168.1.20:1883"),
        ("broker.local:1884 ", "broker.local:1884"),
        ("mqtt://192.168.1.20:1884/", "192.168.1.20:1884"),
        ("fd00::1", "[fd00::1]:1883"),
        ("[fd00::1]:1884", "[fd00::1]:1884"),
    ],
)
def test_an_address_without_a_port_gets_the_one_of_mqtt(
    draft: SiteDraft, tmp_path: Path, address: str, taken: str
) -> None:
    draft.use_broker("street", address=address)
    draft.save()
    assert adapter_of(tmp_path).source[0].address == taken


def test_a_broker_without_an_address_or_password_is_refused(draft: SiteDraft) -> None:
    for given, why in (
        ({"address": "http://x"}, "is a URL"),
        ({"address": "x:99999"}, "port is a number up to 65535"),
        ({"address": ""}, "is empty"),
        ({"address": "x", "user": "me"}, "needs its password"),
        ({"address": "x", "password": "me"}, "needs its user"),
    ):
        with pytest.raises(ConfigError, match=why):
            draft.use_broker("street", **given)


def test_one_device_is_in_one_home_whatever_it_measures_there(draft: SiteDraft) -> None:
    counter = card("counter-wh", "garage/counter/total")
    draft.place("street", counter, home="Home 1", role="load")
    for home, role in (("Home 2", "sun"), ("Home 1", "load")):
        with pytest.raises(ConfigError, match="is in Home 1 already"):
            draft.place("street", counter, home=home, role=role)
    draft.place("street", counter, home="Home 1", role="sun")
    assert [(one.home, one.role) for one in draft.devices("street")] == [("Home 1", "load"), ("Home 1", "sun")]


def test_of_two_people_who_change_it_at_once_one_is_told(draft: SiteDraft, tmp_path: Path) -> None:
    other = SiteDraft(tmp_path)
    draft.describe(name="One", timezone="Europe/Berlin")
    draft.save()
    other.describe(name="Two", timezone="Europe/Berlin")
    with pytest.raises(ConfigError, match="Another person changed it"):
        other.save()
    assert tomllib.loads((tmp_path / "site.toml").read_text())["town"]["name"] == "One"


def test_a_battery_is_told_a_fifth_of_its_capacity_within_bounds() -> None:
    assert [watts_of(wh) for wh in (500, 10_240, 100_000)] == [200, 2_000, 3_000]


def test_a_device_whose_preset_counts_generation_is_a_sun_and_no_grid_meter(draft: SiteDraft, tmp_path: Path) -> None:
    charger = card("victron-solar", "c0619ab0/solarcharger/288", incoming=["generation"])
    with pytest.raises(ConfigError, match="can't be a meter"):
        draft.place("street", charger, home="Home 1", role="grid")
    draft.place("street", charger, home="Home 1", role="sun")
    draft.save()
    assert list(types_of(tmp_path).values()) == [{RecordType.GENERATION}]


def test_homes_of_one_name_in_two_microgrids_and_counted_houses_have_accounts_of_their_own(tmp_path: Path) -> None:
    mill = SITE.partition("[[microgrid]]")[2].replace("street", "mill").replace("houses = 0", "houses = 8")
    mill = mill.replace("9102", "9103").replace("[microgrid.", 'address = "192.168.1.20"\n[microgrid.')
    (tmp_path / "site.toml").write_text(f"{SITE}\n[[microgrid]]{mill}")
    draft = SiteDraft(tmp_path)
    for microgrid in ("street", "mill"):
        draft.use_broker(microgrid, address="192.168.1.30")
        for device in (SUN, PLUG):
            draft.place(microgrid, device, home="Home 1", role="sun" if device is SUN else "load")
    draft.save()
    accounts = {(each.microgrid, each.location, each.account) for each in load_site(tmp_path / "site.toml")[1].meters}
    homes = {(microgrid, "Home 1", 50_001 + n) for n, microgrid in enumerate(("street", "mill"))}
    assert homes == {one for one in accounts if one[1] == "Home 1"}
    assert not {account for _, _, account in homes} & {account for _, _, account in accounts - homes}
    assert {one.account for one in draft.devices("mill")} == {50_002}


def test_a_device_that_announces_another_topic_now_is_placed_by_its_new_rules_alone(
    draft: SiteDraft, tmp_path: Path
) -> None:
    def announced(topic: str) -> dict[str, Any]:
        rule = {"preset": "cellar-ba7816", "topic": f"{topic}/energy", "kind": "register", "unit": "kWh"}
        command = {"preset": "cellar-ba7816", "kind": "reduce", "topic": f"{topic}/set", "on": "0", "off": "1"}
        rules, commands = [rule | {"format": "plain"}], [command | {"failsafe": "will"}]
        return card("cellar-ba7816", "cellar", reduce=ENDS, rules=rules, commands=commands)

    draft.use_broker("street", address="192.168.1.20")
    draft.place("street", announced("before"), home="Home 1", role="load", told=("reduce",))
    draft.save()
    draft.exchange("street", "cellar-ba7816 cellar 0", announced("now"), 1_790_000_000)
    draft.save()
    settings = adapter_of(tmp_path)
    assert [each.topic for each in settings.rule] == [("now/energy",)]
    assert [each.topic for each in settings.command] == ["now/set"]


def test_a_meter_that_a_person_wrote_is_no_home_and_stays_as_it_is(tmp_path: Path) -> None:
    town = '[[meter]]\nmicrogrid = "street"\nid = 7\nadapter = true\nlocation = "Home 1"\ndirection = "outgoing"\n'
    own = '[[microgrid.adapter.meter]]\nid = 7\npreset = "tasmota"\nsource = "barn"\n'
    (tmp_path / "site.toml").write_text(f"{SITE}\n{own}\n{town}")
    draft = SiteDraft(tmp_path)
    draft.use_broker("street", address="192.168.1.30")
    draft.place("street", SUN, home="Home 1", role="sun")
    draft.remove("street", draft.devices("street")[0].key)
    assert draft.gone == [1_000_001]
    draft.save()
    assert [(meter.id, meter.source) for meter in adapter_of(tmp_path).meter] == [(7, "barn")]
