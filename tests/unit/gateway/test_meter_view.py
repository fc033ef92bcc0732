"""What a gateway's commands tell meters besides their state: the order of brokers, epochs (A1, R13)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.records import Log
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.meter_messages import Put, Refusal, unpack_put_ack
from gateway.control.epochs import FIRST_EPOCH, MAX_COUNTER, Epochs
from gateway.control.meter_view import BrokerOrders
from gateway.controller import Controller
from gateway.core import RETRY
from gateway.events import FromMeter, Tick
from gateway.store.changes import Change, Setting
from gateway.store.store import Store
from harness.surroundings.gateway import World, commands, readings, registered

ORDERS = [[["r002", "r001", "r003"], ["2"]]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "gateway.db")
    yield world
    world.store.close()


def asked(world: World) -> dict[int, tuple[str, ...] | None]:
    """Return the brokers in each ``initialize`` that is sent now, by meter."""
    sent = [p for p in world.tick(RETRY) if p.topic.endswith("/d/cmd")]
    meters = [int(one.topic.split("/")[2]) for one in sent]
    return {m: c.brokers for m, c in zip(meters, commands(sent), strict=True) if c.cmd == "initialize"}


def answer_all(world: World) -> None:
    for meter in world.meters:
        world.introduce(meter)


def test_an_assigned_order_is_named_until_the_meter_answers_also_after_a_restart(world: World) -> None:
    assert set(asked(world).values()) == {None}, "nothing was ever assigned"
    answer_all(world)
    assert asked(world) == {}
    _, outcome = world.ask(cmd="assign", orders=ORDERS)
    assert outcome.result == "done"
    assert asked(world) == {2: ("r002", "r001", "r003")}, "no other meter is asked again"
    world.crash()
    named = asked(world)
    assert (named[2], named[1]) == (("r002", "r001", "r003"), ())
    answer_all(world)
    world.ask(cmd="assign", orders=[])
    assert asked(world) == {2: ()}, "as installed again"


def test_an_assignment_without_orders_is_refused(world: World) -> None:
    with pytest.raises(StopIteration):
        world.ask(cmd="assign")


def test_a_successor_calls_meters_to_its_broker_but_those_whose_data_goes_elsewhere(world: World) -> None:
    orders = BrokerOrders("r001", world.store)
    orders.set({1: ("r001", "r003"), 2: ("r005", "r001", "r002")})
    of_manager = ("r002", "r003", "r001")
    assert [orders.of(meter, of_manager) for meter in (1, 2, 3)] == [of_manager, ("r005", "r001", "r002"), of_manager]
    assert [orders.of(meter, ()) for meter in (1, 2, 3)] == [("r001", "r003"), ("r005", "r001", "r002"), ()]


def test_a_collector_takes_records_and_commands_nothing(world: World, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "gateway-a001.db")
    controller = Controller(world.settings, world.store, world.meters)
    controller.host("a001", store, {7: registered(7)})
    put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=2, records=tuple(r.pack() for r in readings(7, 1, 2)))
    event = FromMeter("cw1/a001/7/u/rec", put.pack())
    assert controller.receivers(event) == ("a001",)
    effects = controller.handle("a001", event, world.now)
    (answer,) = [effect for effect in effects if isinstance(effect, Publish)]
    assert answer.topic == "cw1/a001/7/d/ack"
    assert unpack_put_ack(answer.payload).status is Refusal.NONE
    ticked = controller.handle("a001", Tick(RETRY), world.now)
    assert commands([effect for effect in ticked if isinstance(effect, Publish)]) == []
    store.close()


METERS = (1, 2)


class Kept(dict[str, str]):
    """Settings in memory (``gateway.store.changes.KeptSettings``)."""

    def setting(self, key: str) -> str | None:
        return self.get(key)

    def commit(self, effects: list[Effect[Change]]) -> None:
        for effect in effects:
            assert isinstance(effect, Write)
            assert isinstance(effect.change, Setting)
            self[effect.change.key] = effect.change.value


def test_a_gateway_that_lost_its_store_goes_one_above_what_a_meter_saw_of_it() -> None:
    kept = Kept()
    epochs = Epochs(kept, METERS)
    kept.commit(epochs.reported(1, (7, 0)))
    assert (epochs.of(1), epochs.of(2)) == ((8, 0), FIRST_EPOCH)
    again = Epochs(kept, METERS)
    assert (again.of(1), again.of(2)) == ((8, 0), FIRST_EPOCH)


def test_a_meter_of_another_manager_is_left_alone_until_it_reports_less() -> None:
    epochs = Epochs(Kept(), METERS)
    assert epochs.reported(1, (7, 1)) == []
    assert epochs.fenced == {1: (7, 1)}
    assert epochs.of(1) == FIRST_EPOCH
    assert epochs.reported(1, FIRST_EPOCH) == []
    assert epochs.fenced == {}


def test_the_highest_counter_there_is_fences_the_gateway_off() -> None:
    epochs = Epochs(Kept(), METERS)
    assert epochs.reported(1, (MAX_COUNTER, 0)) == []
    assert epochs.fenced == {1: (MAX_COUNTER, 0)}


@given(st.lists(st.tuples(st.sampled_from(METERS), st.tuples(st.integers(0, 9), st.integers(0, 1))), max_size=20))
def test_an_epoch_only_rises_and_keeps_its_rank_over_restarts(reports: list[tuple[int, Epoch]]) -> None:
    kept = Kept()
    last = dict.fromkeys(METERS, FIRST_EPOCH)
    for meter, epoch in reports:
        epochs = Epochs(kept, METERS)
        kept.commit(epochs.reported(meter, epoch))
        for one in METERS:
            now = epochs.of(one)
            assert now >= last[one]
            assert now[1] == FIRST_EPOCH[1]
            last[one] = now
