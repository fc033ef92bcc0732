"""The timeline of a microgrid: when it was an island, shared or reduced."""

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.records import State
from utility.overview.timeline import Change, Span, spans

SHARES = int(State.SHARING)


def change(meter: int, time: int, bits: int) -> Change:
    return Change(meter=meter, time=time, bits=bits)


def test_a_span_lasts_while_any_meter_has_the_state() -> None:
    events = [change(1, 10, SHARES), change(2, 20, SHARES), change(1, 30, 0), change(2, 40, 0), change(1, 90, SHARES)]
    assert spans(events, SHARES, 0, 100) == [Span(begin=10, end=40, most=2), Span(begin=90, end=100, most=1)]


def test_what_began_before_begins_with_the_timeline() -> None:
    events = [change(1, -500, SHARES), change(1, 5, 0)]
    assert spans(events, SHARES, 0, 100) == [Span(begin=0, end=5, most=1)]
    assert spans([change(1, 100, SHARES)], SHARES, 0, 100) == [], "after its end"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-20, 120), st.sampled_from([0, SHARES]))))
def test_at_each_second_the_spans_say_what_the_events_say(events: list[tuple[int, int, int]]) -> None:
    found = spans([change(*each) for each in events], SHARES, 0, 100)
    for second in range(100):
        until_now = sorted((each for each in events if each[1] <= second), key=lambda each: each[1])
        state = {meter: bits for meter, _, bits in until_now}
        assert any(each.begin <= second < each.end for each in found) == any(state.values())
