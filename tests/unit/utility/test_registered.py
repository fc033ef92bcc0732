"""The registry as arrays says of a whole batch what the registry says of each block."""

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.keys import Key, Keys
from commonwatt.model.units import MAX_ABS_READING
from utility.registry.snapshot import Registered
from utility.store.registry import KnownMeter

ids = st.sampled_from([0, 1, 77, 2**63, 2**64 - 1])
types = st.sampled_from([0, 1, 2, 4, 62, 63, 64, 255])
meters = st.dictionaries(
    ids,
    st.builds(
        KnownMeter,
        no=st.just(1),
        microgrid=st.sampled_from(["r001", "r002"]),
        record_types=st.frozensets(types),
        limits=st.dictionaries(st.integers(1, 4), st.integers(0, 10**9)),
    ),
)


@given(meters, st.lists(st.tuples(ids, types, st.just(9)), max_size=3), st.sampled_from(["r001", "r003"]))
def test_batch_is_allowed_only_if_each_block_is(meters: dict[int, KnownMeter], keys: list[Key], microgrid: str) -> None:
    def allowed(meter: KnownMeter | None, record_type: int) -> bool:
        return meter is not None and meter.microgrid == microgrid and record_type in meter.record_types

    each = all(allowed(meters.get(meter_id), record_type) for meter_id, record_type, _ in keys)
    allows = Registered(meters).allow(Keys.of(keys), microgrid)
    # What is not allowed is judged block by block, so a type beyond any mask may be left to that.
    assert allows == (each and all(record_type < 63 for _, record_type, _ in keys))


@given(meters, st.data())
def test_limits_of_a_batch_are_those_of_its_meters(meters: dict[int, KnownMeter], data: st.DataObject) -> None:
    key = st.tuples(st.sampled_from(sorted(meters)), types, st.just(9)) if meters else st.nothing()
    keys = data.draw(st.lists(key, max_size=5 if meters else 0))
    limits = Registered(meters).limits(Keys.of(keys)).tolist()
    assert limits == [meters[meter].limits.get(record_type, MAX_ABS_READING) for meter, record_type, _ in keys]
