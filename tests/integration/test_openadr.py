"""Clients of other makers read programs and events from a utility's process by OpenADR 3.1, over HTTPS."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from commonwatt.identity.certificates import Purpose
from commonwatt.model.control import SupplyState
from commonwatt.runtime.clock import machine_s
from harness.billing.worlds import tariff
from harness.care.certificates import authority, certificate
from harness.furnished import token_of
from harness.network.waiting import eventually
from harness.real import forks, parts
from harness.real.brokers import listens
from harness.real.packages import client
from harness.real.site import Site
from utility.access.people import Role
from utility.access.store import access
from utility.access.tables import api_token
from utility.database.database import open_database
from utility.database.town_zone import zone_of
from utility.openadr.api import BASE
from utility.supply.rationing import RATION_S, Ration
from utility.supply.store import tell_rations
from utility.tariffs import store as tariffs

pytestmark = pytest.mark.real

TOWN = 'microgrid = [{id = "r", kind = "residential", count = 2, houses = 1}]\n'
LABEL = "lea's token"

# Each prints what it read: programs' ids, the payloads' units, the targets of its VEN, and events with their intervals.
SMALL = """
import json, sys, openadr3
base, label, secret = sys.argv[1:]
token = openadr3.fetch_token(base, label, secret)
ven = openadr3.create_ven_client(base, token)
(own,) = [one for one in ven.vens() if one.ven_name == label]
events = [*ven.events(), *ven.events(targets=own.targets)]
units = {d.payload_type: d.units for p in ven.programs() for d in p.payload_descriptors}
print(json.dumps([[p.id for p in ven.programs()], units, list(own.targets), {
    event.id: [[int(i.interval_period.start.timestamp()), int(i.interval_period.duration.total_seconds()),
    {p.type: p.values[0] if isinstance(p.values[0], str) else float(p.values[0]) for p in i.payloads}]
    for i in ven.event(event.id).intervals] for event in events}]))
"""
STRICT = """
import json, sys
from openadr3_client.oadr310._vtn.interfaces.filters import TargetFilter
from openadr3_client.ven.http_factory import VirtualEndNodeHttpClientFactory
from openadr3_client.version import OADRVersion
base, label, secret = sys.argv[1:]
ven = VirtualEndNodeHttpClientFactory.create_http_ven_client(base, label, secret, version=OADRVersion.OADR_310)
(own,) = ven.vens.get_vens(label, None, None)
limits = ven.events.get_events(TargetFilter(targets=list(own.targets)), None, None)
programs, events = ven.programs.get_programs(None, None), [*ven.events.get_events(None, None, None), *limits]
units = {d.payload_type: d.units for p in programs for d in p.payload_descriptors}
print(json.dumps([[p.id for p in programs], units, list(own.targets), {
    event.id: [[int(i.interval_period.start.timestamp()), int(i.interval_period.duration.total_seconds()),
    {p.type: p.values[0] for p in i.payloads}] for i in ven.events.get_event_by_id(event.id).intervals]
    for event in events}]))
"""


@dataclass(frozen=True, kw_only=True)
class Vtn:
    """A utility's process that serves by HTTPS."""

    base: str  # the address of its OpenADR
    ca: Path  # the certificate of its authority
    secret: str  # the text of a VEN's token
    ended: str  # the text of a VEN's token that ended
    read: list[Any]  # what a client has to read

    def run(self, python: Path, code: str, secret: str, code_is: int = 0) -> str:
        """Run a client; return what it says."""
        trusts = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(self.ca))
        words = [str(python), "-c", code, self.base, LABEL, secret]
        done = subprocess.run(words, env=os.environ | trusts, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code_is, done.stdout + done.stderr
        return done.stdout + done.stderr


def furnish(site: Site) -> tuple[str, str, list[Any]]:
    """Store a tariff, rations and tokens; return two tokens' texts, the second one ended, and what there is to read."""
    folder, now = site.layout.part("utility").config.parent, int(site.layout.clock.now())
    database = open_database(f"sqlite:///{folder}/utility.db", create=False)
    limits = {"r001": 4500, "r002": None}
    told = {name: Ration(import_limit_w=limit_w, reduce=True, reason="short") for name, limit_w in limits.items()}
    with database.writes.begin() as connection:
        tariffs.propose(connection, tariff(peak=("06:00", "09:00")), "", "anna", now)
        tariffs.publish(connection, "town", 1, "otto", now)
        tell_rations(connection, told, SupplyState.CRITICAL, now)
        zone = zone_of(connection)
        roles = frozenset({Role.VEN})
        lea = access.Person(name="lea", display="Lea", state="invited", roles=roles, created=machine_s())
        access.add_person(connection, lea, "harness")
        access.set_state(connection, "lea", "active")
    ended, secret = (token_of(database, "lea", "ven", machine_s())["Authorization"].split()[1] for _ in range(2))
    with database.writes.begin() as connection:
        connection.execute(api_token.update().values(until=machine_s() + 3600))
        connection.execute(api_token.update().where(api_token.c.no == 1).values(revoked=machine_s()))
    database.close()
    return secret, ended, [["supply", "tariff-town"], UNITS, ["r001", "r002"], expected_events(now, zone)]


UNITS = {
    "IMPORT_CAPACITY_LIMIT": "KW",
    "SIMPLE": None,
    "ALERT_FLEX_ALERT": None,
    "ALERT_GRID_EMERGENCY": None,
    "PRICE": "KWH",
    "EXPORT_PRICE": "KWH",
}


def expected_events(now: int, zone: Any) -> dict[str, Any]:
    words = "The regional supply is CRITICAL. Use less."
    events: dict[str, Any] = {
        "supply-state": [[now, RATION_S, {"SIMPLE": 2.0, "ALERT_GRID_EMERGENCY": words}]],
        "limit-r001": [[now, RATION_S, {"IMPORT_CAPACITY_LIMIT": 4.5}]],
    }
    cheap, dear = {"PRICE": 0.2, "EXPORT_PRICE": 0.1}, {"PRICE": 0.32, "EXPORT_PRICE": 0.16}
    for days in (0, 1):
        day = (datetime.fromtimestamp(now, zone) + timedelta(days=days)).date()
        hours = [(0, cheap), (6, dear), (9, cheap), (24, {})] if day.weekday() < 5 else [(0, cheap), (24, {})]
        local = [datetime.combine(day, datetime.min.time(), zone) + timedelta(hours=hour) for hour, _ in hours]
        times = [int(moment.timestamp()) for moment in local]
        events[f"tariff-town-{day}"] = [
            [start, end - start, values] for start, end, (_, values) in zip(times, times[1:], hours, strict=False)
        ]
    return events


@pytest.fixture(scope="module")
def vtn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vtn]:
    folder = tmp_path_factory.mktemp("openadr")
    with Site(folder / "site", TOWN, speed=1) as site:
        pem = certificate(authority(folder / "authority"), Purpose.BROKER, "utility")
        site.add_setting("utility", f'http_certificate = "{pem}"')
        secret, ended, read = furnish(site)
        part = site.layout.part("utility")
        process = site.processes["utility"] = forks.start(part.command, part.log)
        host, _, port = str(part.http).rpartition(":")
        eventually(lambda: process.poll() is not None or listens(host, int(port)))
        assert process.poll() is None, site.log("utility")
        yield Vtn(
            base=f"https://{host}:{port}{BASE}", ca=pem.with_name("ca.pem"), secret=secret, ended=ended, read=read
        )


@pytest.fixture(scope="module")
def strict() -> Path:
    """A client that checks all that it reads with models of its own. It needs a newer Python than we do."""
    return client("openadr3-client==2.4.2", (3, 12)) or parts.miss("needs Python 3.12 or later")


@pytest.fixture(scope="module")
def small() -> Path:
    found = client("openadr3==0.5.0")
    assert found is not None
    return found


def test_a_client_of_another_maker_reads_our_prices_supply_state_and_import_limit(vtn: Vtn, small: Path) -> None:
    assert json.loads(vtn.run(small, SMALL, vtn.secret)) == vtn.read


def test_a_client_with_models_of_its_own_reads_the_same(vtn: Vtn, strict: Path) -> None:
    assert json.loads(vtn.run(strict, STRICT, vtn.secret)) == vtn.read


def test_a_client_with_an_ended_token_is_told_so(vtn: Vtn, small: Path) -> None:
    assert "401 Unauthorized" in vtn.run(small, SMALL, vtn.ended, 1)
    reads = "import sys, openadr3; print(openadr3.create_ven_client(sys.argv[1], sys.argv[3]).get_programs().json())"
    assert "'title': 'Unauthorized', 'status': 401" in vtn.run(small, reads, vtn.ended)


def test_a_client_that_wants_to_write_is_told_that_it_may_not(vtn: Vtn, small: Path) -> None:
    writes = """
import sys, openadr3
ven = openadr3.create_ven_client(sys.argv[1], sys.argv[3])
for answer in (ven.create_ven({"venName": "x"}), ven.create_report({}), ven.create_subscription({})):
    print(answer.json()["status"], answer.json()["title"])
"""
    assert vtn.run(small, writes, vtn.secret).splitlines() == ["405 Method Not Allowed"] * 3
