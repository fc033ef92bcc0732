"""The utility as a process buys for a plant over the real head-end broker, and is killed while it does."""

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

from commonwatt.identity.devices import load_tokens
from commonwatt.model.effects import Publish
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.plant_messages import PlantOutcome
from commonwatt.protocol.topics import OUTCOMES, PLANT, gateway_down
from harness.commands import shown
from harness.network.mqtt import link_of
from harness.network.waiting import PATIENCE_S, become, cancelled
from harness.real.site import Site
from harness.surroundings.fleet import PlantHost
from meter_sim.store import load

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'
SPEED = 60
KILLS = 2  # kills after which the utility asks again within the quarter-hour
MOST_KILLS = 12


class Plant(PlantHost):
    """A plant that is connected to the head-end, and runs by the town's clock."""

    def __init__(self, site: Site) -> None:
        self.clock = site.layout.clock
        super().__init__(dear_from=2**32)
        self.at = int(self.clock.now()) // SLOT_S * SLOT_S
        self.accepted: list[PlantOutcome] = []  # the outcomes of purchases that it accepted, by quarter
        self.repeated: set[str] = set()  # purchases that it was asked for again
        self.loses = True  # whether it loses the first outcome of a purchase; when it does, ``lost`` is set
        self.lost = asyncio.Event()
        self.wake = asyncio.Event()
        head_end = "{}:{}".format(*site.address("head-end"))
        token = load_tokens(site.folder / "plant" / "plant-tokens.json")["plant"]
        self.arrived: deque[bytes] = deque()
        self.connection = link_of(head_end, PLANT, token, gateway_down(PLANT, "+"), on_message=self.heard)

    def heard(self, _: str, payload: bytes) -> None:
        self.arrived.append(payload)
        self.wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            now = int(self.clock.now())
            while self.at + SLOT_S <= now:
                self.slot(self.at)
                self.at += SLOT_S
            while self.arrived:
                self.do(self.core.receive(self.arrived.popleft(), now))
            for message in self.sent:
                self.tell(message)
            self.sent.clear()
            self.wake.clear()
            try:
                async with asyncio.timeout(self.clock.real_s(SLOT_S) / 2):
                    await self.wake.wait()
            except TimeoutError:
                continue

    def tell(self, message: Publish) -> None:
        """Publish; the first outcome of a quarter is lost, and so is the plant's memory."""
        if message.topic.endswith(OUTCOMES):
            outcome = unpack_json(PlantOutcome, message.payload)
            if outcome.result == "repeated":
                self.repeated.add(outcome.id)
            if outcome.result == "done":
                self.accepted.append(outcome)
                if self.loses and not self.lost.is_set():
                    self.lost.set()
                    self.start()
                    return
        self.connection.publish(message)


def supply(site: Site) -> dict[str, Any]:
    """What the command shows, in JSON."""
    part = site.layout.part("utility")
    found: dict[str, Any] = shown(part.config, "supply")
    return found


async def story(site: Site) -> None:
    plant = Plant(site)
    tasks = [asyncio.create_task(plant.connection.run()), asyncio.create_task(plant.run())]
    try:
        spoiled: set[str] = set()  # purchases whose outcome the utility did not hear
        while len(spoiled & plant.repeated) < KILLS:
            assert len(spoiled) < MOST_KILLS, "the utility was never back within the quarter-hour"
            await asyncio.wait_for(plant.lost.wait(), PATIENCE_S)
            # The plant has the purchase, and nobody knows it: the utility dies before it hears the outcome.
            site.kill("utility")
            spoiled.add(plant.accepted[-1].id)
            await asyncio.to_thread(site.start, "utility")
            plant.lost.clear()
        plant.loses = False
        enough = plant.at // QUARTER_S + 2
        await become(lambda: plant.at // QUARTER_S >= enough)
    finally:
        await cancelled(*tasks)
    found = await asyncio.to_thread(supply, site)
    bought = {row.quarter: row.ordered for row in load(plant.file)[1] if row.ordered}
    rows = {row["quarter"]: row for row in found["purchases"]}
    accepted = [outcome.id for outcome in plant.accepted]
    assert len(accepted) == len(set(accepted)) >= KILLS
    for quarter, energy in bought.items():
        row = rows[quarter]
        # On a slow machine the quarter-hour may be over before the utility is back.
        assert row["state"] == "done" or (row["state"] == "expired" and row["id"] in spoiled)
        assert row["id"] in accepted
        assert 0 < energy <= row["energy"]
        if row["state"] == "done" and row["id"] in spoiled:
            assert row["outcome"]["result"] == "repeated", "the outcome that was lost came again"


def test_a_utility_that_is_killed_over_a_purchase_makes_it_once(tmp_path: Path) -> None:  # req: U4
    with Site(tmp_path / "town", TOWN, speed=SPEED) as site:
        site.start("head-end", "utility")
        asyncio.run(story(site))
