"""A device is placed for a controller elsewhere that joined by its label; the controller takes it, and readings come.

The street runs as its command runs it. The controller is a folder in place of a root; the test does what its systemd
would: it runs the unit's command and starts again what that prints.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from commonwatt.site.bundle import BUNDLES
from commonwatt.site.draft import SiteDraft
from harness.foreign.neighbours import Neighbours
from harness.network.waiting import eventually, free_port
from harness.real import brokers
from harness.real.deploy import machine_root
from harness.real.own_street import OwnStreet
from tests.integration.test_deploy import Place
from tests.integration.test_join import at, connected, has_records, invitation, is_asked, start, start_by_hand
from tests.unit.commonwatt.test_site_draft import card
from utility.care.store import told_bundle
from utility.database.database import open_database
from utility.outbox.store import Told

MICROGRID = """
[[microgrid]]
id = "mill"
kind = "residential"
houses = 0
boundary = false
address = "127.0.0.1"
broker = {{listen = "{0}", http = "{1}"}}
gateway = {{http = "{2}", beats = "{3}"}}
adapter = {{http = "{4}", source = []}}
"""
BOILER = card("tasmota", "boiler")


def told(site: Path) -> Told | None:
    """Return what the utility told the controller of its newest bundle."""
    with closing(open_database(f"sqlite:///{site}/utility/utility.db", create=False)) as database:
        return database.read(told_bundle, site / "utility" / BUNDLES, "mill")


def result(site: Path) -> str | None:
    found = told(site)
    return None if found is None else found.result


@pytest.fixture
def street(tmp_path: Path) -> Iterator[OwnStreet]:
    street = OwnStreet(tmp_path / "site")
    street.start()
    eventually(street.is_well)
    yield street
    street.stop()


@pytest.fixture
def mill(street: OwnStreet, tmp_path: Path) -> Iterator[Place]:
    """Have a second microgrid's controller join the street, by its label."""
    site, care = street.folder, free_port()
    text = (site / "site.toml").read_text().replace("[site]\n", f"[site]\ncare = {care}\n")
    for table in ("[utility]\n", "[microgrid.gateway]\n"):
        text = text.replace(table, f'{table}beats = "{at()}"\n')
    assert street.takes(text + MICROGRID.format(*(at() for _ in range(5)))) == ""
    office, mill = (Place(home=tmp_path / name, root=machine_root(tmp_path / f"{name}/root")) for name in ("o", "mill"))
    office.type(f"commonwatt site labels mill --site {site}")
    eventually(partial(brokers.listens, "127.0.0.1", care))
    office.type(f"commonwatt do jobs/bundles/change every_s=15 --config {site}/utility/utility.toml")
    words = invitation(site, "mill", care).code.words
    with ExitStack() as stack:
        said = mill.type(f"commonwatt join {words} --utility 127.0.0.1:{care} --root {mill.root}")
        start_by_hand("\n".join(line for line in said.splitlines() if "adapter run" not in line), mill, stack)
        eventually(partial(connected, mill.state / "mill/gateway.toml"))
        yield mill


def test_a_placed_device_reaches_a_controller_elsewhere_and_its_readings_come_back(
    street: OwnStreet, mill: Place, tmp_path: Path
) -> None:
    site, port, order = street.folder, free_port(), mill.state / "mill/upgrade/unpack.json"
    # What it joined with, and what lies for it, says the same: that is taken without any change.
    eventually(order.exists)
    mill.type("sudo commonwatt site unpack")
    eventually(lambda: result(site) == "done")
    draft = SiteDraft(site)
    draft.use_broker("mill", address=f"127.0.0.1:{port}")
    draft.place("mill", BOILER, home="Mill", role="load")
    draft.save()
    eventually(order.exists)
    said = mill.type("sudo commonwatt site unpack")
    assert "systemctl restart commonwatt-adapter@mill.service" in said
    assert not order.exists()
    adapter = mill.state / "mill/adapter.toml"
    assert f'"127.0.0.1:{port}"' in adapter.read_text()
    foreign = brokers.open_to_all(tmp_path / "mosquitto", "127.0.0.1", port)
    with brokers.Mosquitto(foreign, ("127.0.0.1", port), tmp_path / "log"), ExitStack() as stack:
        stack.callback(Neighbours(port).close)
        start(stack, ["adapter", "run", "--config", str(adapter)], tmp_path / "adapter.log")
        eventually(partial(is_asked, adapter))
        eventually(lambda: result(site) == "done")
        eventually(partial(has_records, site / "utility/utility.toml", "mill"), 300)
