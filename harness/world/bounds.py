"""Checks that memory and stores stay within their bounds (I10)."""

from collections import Counter
from typing import TYPE_CHECKING

from gateway.collect.collector import DEAD_LETTERS_A_DAY
from gateway.relay.relay import MAX_WANTED
from gateway.relay.turns import WINDOW
from gateway.relay.utility_commands import KEPT_OUTCOMES
from utility.readings.core import MAX_JUNK_A_DAY
from utility.readings.gaps import MAX_ASKED

if TYPE_CHECKING:
    from harness.world.fleet import Fleet
    from harness.world.gateway import GatewayNode
    from harness.world.utility import UtilityNode
    from harness.world.world import World

KINDS = 4  # kinds of desired states
# Most ranges of ids that a gateway's store has of one log; only a lost store leaves holes between them.
MAX_RANGES = 200
SETTINGS = 40  # names of settings that the gateway's modules keep; a name has one value, or one a meter or a microgrid


def check_gateway(node: "GatewayNode") -> None:
    """Check a gateway's state in memory, after each of its steps."""
    relay = node.core.relay
    _hold(node.world, node.name, "waiting messages", len(node.waiting), node.max_waiting)
    _hold(node.world, node.name, "batches in flight", len(relay.in_flight), WINDOW + 1)
    _hold(node.world, node.name, "blocks asked for", len(relay.wanted), MAX_WANTED)


def check_stores(world: "World") -> None:
    """Check the rows of stores, and other slow growth."""
    for node in world.gateways.values():
        if not node.store.closed:
            _check_gateway_store(node)
    for fleet in world.fleets.values():
        _check_fleet(fleet)
    _check_utility(world.utility)


def _check_gateway_store(node: "GatewayNode") -> None:
    meters = len(node.core.manager.meters)
    rows = {
        table: node.store._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("desired", "coverage", "letter", "period")
    }
    names = Counter(key.partition(":")[0] for (key,) in node.store._db.execute("SELECT key FROM setting"))
    most_of_one = max(meters, len(node.world.gateways))
    days = 3  # wrong clocks give other days
    _hold(node.world, node.name, "desired states", rows["desired"], meters * KINDS)
    _hold(node.world, node.name, "ranges of ids", rows["coverage"], meters * MAX_RANGES)
    # Dead letters of junk, and one for each rejected record; all of the latter were real records.
    rejected = sum(map(len, node.world.ledger.made.values())) + len(node.world.ledger.events)
    rejected += len(node.world.ledger.forged)
    _hold(node.world, node.name, "letters", rows["letter"], DEAD_LETTERS_A_DAY * days * (meters + 1) + rejected)
    _hold(node.world, node.name, "names of settings", len(names), SETTINGS)
    _hold(node.world, node.name, "settings of one name", max(names.values(), default=0), most_of_one)
    _hold(node.world, node.name, "periods", rows["period"], 10)
    _hold(node.world, node.name, "outcomes kept", len(node.core.utility_commands._outcomes), KEPT_OUTCOMES)


def _check_fleet(fleet: "Fleet") -> None:
    for meter, core in fleet.meters.items():
        _hold(fleet.world, f"meter {meter}", "records", len(core.history.rows), fleet.limits.log_records)
    _hold(fleet.world, fleet.name, "waiting messages", len(fleet.waiting), fleet.max_waiting)


def _check_utility(node: "UtilityNode") -> None:
    _hold(node.world, node.name, "waiting messages", len(node.waiting), node.max_waiting)
    if node.up:
        junk = max(node.core._junk.values(), default=0)
        _hold(node.world, node.name, "letters of one sender in a day", min(junk, MAX_JUNK_A_DAY), MAX_JUNK_A_DAY)
    with node.database.reads.connect() as connection:
        # The gap finder's commands, each for many blocks, and the operator's commands.
        commands = connection.exec_driver_sql("SELECT count(*) FROM command WHERE state = 'open'").scalar_one()
    _hold(node.world, node.name, "open commands", commands, MAX_ASKED)


def _hold(world: "World", name: str, what: str, number: int, most: int) -> None:
    if number > most:
        world.fail(f"I10: {name} has {number} {what}, {most} at most")
