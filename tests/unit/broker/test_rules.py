"""Every identity against every topic and filter: what the table does not grant is refused."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access_rules import Action, allowed
from commonwatt.identity.devices import Device, Role
from commonwatt.protocol import topics

METER_LEAVES = ("rec", "ev", "lvl", "out")
GATEWAY_LEAVES = ("batch", "stat", "out")
DOWN_LEAVES = ("ack", "cmd")


def device(identity: str, role: Role, microgrid: str) -> Device:
    return Device(identity=identity, role=role, microgrid=microgrid, token_sha256="")


METER_1 = device("1", Role.METER, "r001")
METER_11 = device("11", Role.METER, "r001")
METER_2 = device("2", Role.METER, "r002")
GATEWAY_1 = device("r001", Role.GATEWAY, "r001")
GATEWAY_2 = device("r002", Role.GATEWAY, "r002")
UTILITY = device(topics.UTILITY, Role.UTILITY, "")
PLANT = device(topics.PLANT, Role.PLANT, topics.PLANT)
DEVICES = (METER_1, METER_11, METER_2, GATEWAY_1, GATEWAY_2, UTILITY, PLANT)

METERS = {"1": "r001", "11": "r001", "2": "r002"}


def granted(who: Device) -> set[tuple[Action, str]]:
    """What the protocol grants, written out by enumeration and not by pattern."""
    grants: set[tuple[Action, str]] = set()
    own, name = who.microgrid, who.identity
    if who.role is Role.METER:
        grants |= {(Action.PUBLISH, f"cw1/{own}/{name}/u/{leaf}") for leaf in METER_LEAVES}
        grants |= {(Action.SUBSCRIBE, f"cw1/{own}/{name}/d/{leaf}") for leaf in (*DOWN_LEAVES, "+")}
        grants |= {(Action.RECEIVE, f"cw1/{own}/{name}/d/{leaf}") for leaf in DOWN_LEAVES}
    elif who.role is Role.GATEWAY:
        for meter in (*METERS, "+"):
            for leaf in (*METER_LEAVES, "lte", "+"):
                grants.add((Action.SUBSCRIBE, f"cw1/{own}/{meter}/u/{leaf}"))
        for meter in METERS:
            grants |= {(Action.PUBLISH, f"cw1/{own}/{meter}/d/{leaf}") for leaf in DOWN_LEAVES}
            grants |= {(Action.RECEIVE, f"cw1/{own}/{meter}/u/{leaf}") for leaf in (*METER_LEAVES, "lte")}
        grants |= {(Action.PUBLISH, f"cw1/{name}/u/{leaf}") for leaf in GATEWAY_LEAVES}
        grants |= {(Action.SUBSCRIBE, f"cw1/{name}/d/{leaf}") for leaf in (*DOWN_LEAVES, "+")}
        grants |= {(Action.RECEIVE, f"cw1/{name}/d/{leaf}") for leaf in DOWN_LEAVES}
    elif who.role is Role.PLANT:
        grants |= {(Action.PUBLISH, f"cw1/plant/u/{leaf}") for leaf in ("stat", "out")}
        grants |= {(Action.SUBSCRIBE, f"cw1/plant/d/{leaf}") for leaf in ("cmd", "+")}
        grants.add((Action.RECEIVE, "cw1/plant/d/cmd"))
    else:
        grants.add((Action.SUBSCRIBE, "cw1/+/u/+"))
        for microgrid in ("r001", "r002", "r0011", "plant"):
            grants |= {(Action.PUBLISH, f"cw1/{microgrid}/d/{leaf}") for leaf in DOWN_LEAVES}
            grants |= {(Action.RECEIVE, f"cw1/{microgrid}/u/{leaf}") for leaf in GATEWAY_LEAVES}
    return grants


LEAVES = ("rec", "ev", "lvl", "out", "lte", "batch", "stat", "ack", "cmd", "cert", "+", "#", "", "recs", "REC")
EVERYTHING = sorted(
    {
        "/".join(levels)
        for microgrid in ("r001", "r002", "r0011", "plant", "+", "#", "", "$SYS")
        for meter in ("1", "11", "2", "01", "+", "#", "")
        for direction in ("u", "d", "+", "#", "x")
        for leaf in LEAVES
        for levels in (
            ("cw1", microgrid, meter, direction, leaf),
            ("cw1", microgrid, direction, leaf),
            ("cw1", microgrid, meter, direction, leaf, "more"),
            ("cw2", microgrid, meter, direction, leaf),
        )
    }
    | {"#", "+", "+/#", "cw1/#", "cw1/+/#", "$SYS/#", "$SYS/broker", "", "/", "cw1", "+/+/+/+/+", "/cw1/r001/1/u/rec"}
    | {"cw1/r001/1/u/rec\n", " cw1/r001/1/u/rec", "cw1/r001/1/u/rec/", "cw1/r001/1/u/rec\0", "$share/g/cw1/r001/+/u/+"}
)


@pytest.mark.parametrize("who", DEVICES, ids=lambda who: f"{who.role}-{who.identity}")
def test_each_identity_has_exactly_what_the_protocol_grants(who: Device) -> None:
    asked = itertools.product(Action, EVERYTHING)
    assert {(action, topic) for action, topic in asked if allowed(who, action, topic)} == granted(who)


@pytest.mark.parametrize("identity", ["+", "#", "", "1/u", "../2", "$SYS", "r001"])
def test_a_malformed_identity_in_the_devices_file_gains_nothing(identity: str) -> None:
    meter = device(identity, Role.METER, "r001")
    wanted = [*EVERYTHING, f"cw1/r001/{identity}/u/rec", f"cw1/r001/{identity}/d/+"]
    assert not [(action, topic) for action in Action for topic in wanted if allowed(meter, action, topic)]


@pytest.mark.parametrize("microgrid", ["+", "#", "", "R001", "1"])
def test_a_malformed_microgrid_in_the_devices_file_gains_nothing(microgrid: str) -> None:
    gateway = device(microgrid, Role.GATEWAY, microgrid)
    wanted = [*EVERYTHING, f"cw1/{microgrid}/+/u/+", f"cw1/{microgrid}/d/+"]
    assert not [(action, topic) for action in Action for topic in wanted if allowed(gateway, action, topic)]


@given(st.sampled_from(DEVICES), st.sampled_from(Action), st.text(alphabet="cw1r0/+#$ud2acklvr\n", max_size=24))
def test_no_text_is_granted_outside_the_own_subtree(who: Device, action: Action, topic: str) -> None:
    if allowed(who, action, topic):
        assert who.role is Role.UTILITY or topic.startswith(f"cw1/{who.microgrid}/")
        assert "#" not in topic
        assert action is Action.SUBSCRIBE or "+" not in topic


def test_a_gateway_serves_its_own_microgrid_and_those_of_its_clique_alone() -> None:
    gateway = replace(GATEWAY_1, serves=("r002",))
    for microgrid, is_served in (("r001", True), ("r002", True), ("r004", False), ("+", False)):
        assert allowed(gateway, Action.PUBLISH, f"cw1/{microgrid}/1/d/cmd") is is_served
        assert allowed(gateway, Action.SUBSCRIBE, f"cw1/{microgrid}/+/u/+") is is_served
        assert allowed(gateway, Action.RECEIVE, f"cw1/{microgrid}/1/u/rec") is is_served
    assert not allowed(gateway, Action.PUBLISH, "cw1/r002/u/batch"), "at the head-end it is itself alone"
    assert not allowed(gateway, Action.SUBSCRIBE, "cw1/r002/d/cmd")


def test_the_topics_the_parties_use_are_granted() -> None:
    assert allowed(METER_1, Action.PUBLISH, topics.meter_up("r001", 1, topics.RECORDS))
    assert allowed(METER_1, Action.SUBSCRIBE, topics.meter_down("r001", 1, "+"))
    assert allowed(GATEWAY_1, Action.SUBSCRIBE, topics.all_meters_up("r001"))
    assert allowed(GATEWAY_1, Action.PUBLISH, topics.meter_down("r001", 2**64 - 1, topics.COMMANDS))
    assert allowed(GATEWAY_1, Action.PUBLISH, topics.gateway_up("r001", topics.BATCHES))
    assert allowed(GATEWAY_1, Action.SUBSCRIBE, topics.gateway_down("r001", "+"))
    assert allowed(UTILITY, Action.SUBSCRIBE, topics.all_gateways_up())
    assert allowed(UTILITY, Action.PUBLISH, topics.gateway_down("r002", topics.ACKS))
