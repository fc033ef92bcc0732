"""The list of controllers: sorted, the worst first, filtered, each with the alarms that name it."""

from typing import Any

from commonwatt.model.time.now import Trust
from harness.surroundings.utility import a_heartbeat
from utility.alarms.kinds import KINDS
from utility.fleet.fleet import Cared, Sort, cared_for, chosen, ordered

KINDS_OF = {"r001": "residential", "r002": "residential", "a001": "apartment", "p001": "public", "r003": "residential"}


def said(release: str | None = "0.4.0", **program: Any) -> Any:
    fields = {} if release is None else {"program": {"release": release} | program}
    return a_heartbeat(trust=Trust.NETWORK, **fields)


FLEET = cared_for(
    KINDS_OF,
    {
        "r001": (500, said(cert_days=80, starts=3)),
        "r002": (900, said("0.4.1", cert_days=2, disk_days=9, starts=40)),
        "a001": (800, said(None)),
        "p001": (100, said(cert_days=61, disk_days=300, starts=1)),
    },
    [
        KINDS["GatewayCertificateExpired"].alarm("", controller="r002"),
        KINDS["GatewayReleaseDiffers"].alarm("", controller="r002"),
        KINDS["GatewaySilent"].alarm("", controller="r003"),
        KINDS["GatewayDiskFills"].alarm("", controller="p001"),
        KINDS["UtilityDisconnected"].alarm(""),
    ],
)


def names(fleet: list[Cared]) -> list[str]:
    return [one.microgrid for one in fleet]


def test_a_controller_is_as_bad_as_its_worst_alarm() -> None:
    assert {one.microgrid: one.state for one in FLEET} == {
        "r001": "good",
        "r002": "bad",
        "a001": "good",
        "p001": "warning",
        "r003": "bad",
    }
    assert [len(one.wrong) for one in FLEET] == [0, 2, 0, 1, 1]


def test_the_worst_stand_first_in_each_order() -> None:
    orders: dict[Sort, list[str]] = {
        "name": ["r001", "r002", "a001", "p001", "r003"],
        "release": ["r003", "a001", "r001", "p001", "r002"],
        "certificate": ["r002", "p001", "r001", "a001", "r003"],
        "disk": ["r002", "p001", "r001", "a001", "r003"],
        "starts": ["r002", "r001", "p001", "a001", "r003"],
        "heard": ["r003", "p001", "r001", "a001", "r002"],
    }
    assert {by: names(ordered(FLEET, by)) for by in orders} == orders


def test_it_is_filtered_by_name_kind_release_and_alarm() -> None:
    assert names(chosen(FLEET, name="r")) == ["r001", "r002", "r003"]
    assert names(chosen(FLEET, kind="residential", wrong=True)) == ["r002", "r003"]
    assert names(chosen(FLEET, release="0.4.0")) == ["r001", "p001"]
    assert names(chosen(FLEET, release="0.3 or older")) == ["a001"]
