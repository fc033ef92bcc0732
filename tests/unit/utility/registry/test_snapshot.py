"""The registry as arrays says of a whole batch what the registry says of each block."""

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.block_keys import Key, Keys
from commonwatt.model.units import MAX_ABS_READING
from utility.readings.ingest.quarantine import is_assigned
from utility.registry.snapshot import MeterEntry, RegistrySnapshot

ids = st.sampled_from([0, 1, 77, 2**63, 2**64 - 1])
controllers = st.sampled_from(["r001", "r002", "r003"])
types = st.sampled_from([0, 1, 2, 4, 62, 63, 64, 255])
meters = st.dictionaries(
    ids,
    st.builds(
        MeterEntry,
        no=st.just(1),
        microgrid=st.sampled_from(["r001", "r002"]),
        record_types=st.frozensets(types),
        limits=st.dictionaries(st.integers(1, 4), st.integers(0, 10**9)),
    ),
)


@given(meters, st.lists(st.tuples(ids, types, st.just(9)), max_size=3), controllers, controllers)
def test_block_is_assigned_to_the_senders_its_meter_names(
    meters: dict[int, MeterEntry], keys: list[Key], sender: str, microgrid: str
) -> None:
    registered = RegistrySnapshot(meters=meters)
    rows = registered.rows(Keys.of(keys).meter)
    assert (rows is None) == any(meter not in meters for meter, _, _ in keys)
    if rows is None:
        return
    assigned = registered.assigned(rows, sender, microgrid).tolist()
    assert assigned == [is_assigned(meters[meter], sender, microgrid) for meter, _, _ in keys]
    recorded = registered.recorded(rows, Keys.of(keys)).tolist()
    # What is not recorded is judged block by block, so a type beyond any mask may be left to that.
    assert recorded == [kind in meters[meter].record_types and kind < 63 for meter, kind, _ in keys]


@given(meters, st.data())
def test_limits_of_a_batch_are_those_of_its_meters(meters: dict[int, MeterEntry], data: st.DataObject) -> None:
    key = st.tuples(st.sampled_from(sorted(meters)), types, st.just(9)) if meters else st.nothing()
    keys = data.draw(st.lists(key, max_size=5 if meters else 0))
    registered = RegistrySnapshot(meters=meters)
    rows = registered.rows(Keys.of(keys).meter)
    assert rows is not None
    limits = registered.limits(rows, Keys.of(keys)).tolist()
    assert limits == [meters[meter].limits.get(record_type, MAX_ABS_READING) for meter, record_type, _ in keys]
