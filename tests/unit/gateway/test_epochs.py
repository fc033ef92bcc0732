"""The epochs of a gateway's commands: higher after a lost store, never another manager's; one meter at a time."""

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.effects import Effect, Write
from commonwatt.protocol.commands import Epoch
from gateway.changes import Change, Setting
from gateway.control.epochs import FIRST_EPOCH, MAX_COUNTER, Epochs

METERS = (1, 2)


class Kept(dict[str, str]):
    """Settings in memory (``gateway.stored.KeptSettings``)."""

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
