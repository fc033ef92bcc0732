"""A place's totals for Home Assistant while another controller manages its microgrid: they freeze, and go on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.meter_messages import Refusal
from gateway.controller import Controller
from gateway.core import RETRY
from gateway.household.discovery import topics_of
from gateway.store.store import Store
from harness.surroundings.gateway import START, World
from tests.unit.gateway.test_household import OUT, PLACE, House, meter, own

A_MINUTE = 60 // SLOT_S  # records of a minute
OWN_METER = 91


class Successor(World):
    """r002's gateway: it hosts r001, too, and publishes a place of its own microgrid that has the same name."""

    def new_core(self) -> None:
        self.home = Store.open(self.path.with_name("home.db"))
        table = {"place": PLACE, "address": "127.0.0.1:1885"}
        settings = GatewaySettings.model_validate({"microgrid": "r002", "household": table})
        self.controller = Controller(settings, self.home, {OWN_METER: meter(OWN_METER)})
        self.controller.host("r001", self.store, {OUT: meter(OUT)})
        self.core = self.controller.hosted["r001"]
        self.core.time.network(self.now, self.now, 0)

    def published(self) -> list[bytes]:
        """Return the states that it publishes, by its own microgrid and the hosted one."""
        found = []
        for microgrid, core in self.controller.hosted.items():
            messages = core.household.messages(core.now, "9.9")
            found += [messages[topic] for topic in messages if topic == topics_of(microgrid, PLACE, "x").state]
        return found


class Life:
    """A meter with its log, its two gateways, and what Home Assistant is shown, minute by minute."""

    def __init__(self, folder: Path) -> None:
        self.owner: House | None = House(folder / "owner.db")
        self.successor = Successor(folder / "successor.db")
        self.folder = folder
        self.now = START
        self.made = 0  # records that the meter made
        self.acknowledged = 0
        self.at_owner: set[int] = set()  # the records that the owner's store took
        self.shown: list[int] = []  # milliwatt-hours, each state that the owner published

    def kill(self) -> None:
        assert self.owner is not None
        self.owner.store.close()
        self.owner = None

    def start(self) -> None:
        self.owner = House(self.folder / "owner.db")

    def minute(self, at: World | None, *, loses_answer: bool = False) -> None:
        """Let a minute pass: the meter puts what nobody acknowledged at a gateway; ``None``: at none."""
        self.now += 60
        self.made += A_MINUTE
        for gateway in (self.owner, self.successor):
            if gateway is not None:
                gateway.now = self.now
                gateway.tick(RETRY)
        if at is not None:
            first = self.acknowledged + 1
            assert at.put(OUT, first, own(OUT, first, self.made - first + 1)).status is Refusal.NONE
            self.at_owner |= set(range(first, self.made + 1)) if at is self.owner else set()
            self.acknowledged = self.acknowledged if loses_answer else self.made
        if self.owner is not None:
            self.shown.append(self.owner.energy("energy_out"))

    def energy_at_owner(self) -> int:
        """Return the energy of the records that the owner's store took, each once."""
        return sum(own(OUT, record, 1)[0].reading for record in self.at_owner)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path)
    yield life
    life.successor.store.close()
    life.successor.home.close()


def test_totals_freeze_while_the_owner_is_dead_and_go_on_without_a_jump(life: Life) -> None:
    for _ in range(10):
        life.minute(life.owner)
    life.minute(life.owner, loses_answer=True)  # the owner dies before its answer: the next one gets these, too
    frozen = life.shown[-1]
    assert frozen == life.energy_at_owner()
    life.kill()
    life.minute(None)
    for _ in range(60):
        life.minute(life.successor)
    life.minute(life.successor, loses_answer=True)
    life.start()
    life.minute(None)
    assert life.shown[-1] == frozen, "what it published before its death"
    life.minute(life.successor)
    assert life.shown[-1] == frozen, "its meter has not come home"
    for _ in range(10):
        life.minute(life.owner)
        # A minute's energy, and no more: what the successor took is not made up for.
        assert life.shown[-1] - life.shown[-2] == sum(record.reading for record in own(OUT, life.made - 3, A_MINUTE))
    assert life.shown[-1] == life.energy_at_owner()
    assert life.shown == sorted(life.shown)


def test_a_put_that_both_controllers_took_counts_once(life: Life) -> None:
    life.minute(life.owner)
    life.kill()
    life.minute(life.successor, loses_answer=True)
    life.start()
    life.minute(life.owner)
    assert life.shown[-1] == sum(record.reading for record in own(OUT, 1, life.made))


def test_a_successor_publishes_its_own_place_alone_though_the_other_one_has_the_same_name(life: Life) -> None:
    before = life.successor.published()
    for _ in range(5):
        life.minute(life.successor)
    (state,) = life.successor.published()
    assert json.loads(state)["energy_out"] == "0.000000"
    assert before == [state]
