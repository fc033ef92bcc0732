"""The utility is told of foreign devices when one changes and each hour, within few bytes."""

from commonwatt.model.time.now import Now, Trust
from commonwatt.protocol.device_states import DeviceState, ForeignDevice, Stage
from gateway.shown.devices import AGAIN_S, MOST_BYTES, DevicesTold

OFF = DeviceState(stage=Stage.OFF, since=1, failsafe="will", failsafe_s=45)


def at(time: int) -> Now:
    return Now(time, Trust.HARDWARE)


def device(state: DeviceState = OFF, ignored: dict[str, tuple[int, str]] | None = None) -> ForeignDevice:
    return ForeignDevice(name="shed", preset="mine", states={"sharing": state}, ignored=ignored or {})


def test_devices_are_told_when_one_changes_and_each_hour() -> None:
    told = DevicesTold()
    assert told.due({}, at(0)) is None, "most microgrids have none"
    assert told.due({7: device()}, at(60)) == {7: device()}
    assert told.due({7: device(ignored={"unreadable": (3, "x")})}, at(120)) is None, "that waits for the hour"
    obeys = device(OFF.model_copy(update={"stage": Stage.OBEYS}))
    assert told.due({7: obeys}, at(180)) == {7: obeys}
    assert [told.due({7: obeys}, at(180 + s)) is None for s in (AGAIN_S - 60, AGAIN_S)] == [True, False]
    assert told.due({}, at(9_000)) == {}, "the last is gone"
    assert told.due({}, at(90_000)) is None


def test_of_very_many_devices_those_that_disobey_come_first_and_the_message_stays_small() -> None:
    long = {f"reason {n}": (n, "x" * 80) for n in range(12)}
    many = {n: device(ignored=long) for n in range(500)}
    many[499] = device(OFF.model_copy(update={"finding": "should be on, and shows 'idle'"}))
    found = DevicesTold().due(many, at(0))
    assert found is not None
    assert next(iter(found)) == 499
    assert 10 < len(found) < 100
    assert sum(len(one.model_dump_json()) for one in found.values()) < MOST_BYTES
    assert list(found[0].ignored) == ["reason 11", "reason 10", "reason 9"]


def test_text_of_many_bytes_keeps_the_message_small() -> None:
    many = {n: device(ignored={"unreadable": (1, "\U0001f50b" * 80)}) for n in range(500)}
    found = DevicesTold().due(many, at(0))
    assert found
    assert sum(len(one.model_dump_json().encode()) for one in found.values()) < MOST_BYTES
