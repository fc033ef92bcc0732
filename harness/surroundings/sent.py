"""Blocks and batches as gateways send them, and appends as the utility's core makes them."""

from collections.abc import Sequence

from commonwatt.codec.packing import pack
from commonwatt.codec.payloads import Payloads
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.records import EventRecord
from commonwatt.model.time.now import Trust
from commonwatt.protocol.batches import Batch
from commonwatt.protocol.dead_letters import DeadLetter
from utility.outbox.changes import Append


def blocks(slots: dict[int, int], *, meter: int = 10001, kind: int = 3, quarter: int = 2_000_000, q: int = 2) -> Blocks:
    """Return a block with these values by slot, all of quality ``q``."""
    values = [slots.get(slot, 0) for slot in range(60)]
    return make_blocks([(meter, kind, quarter)], [values], [[q if slot in slots else 0 for slot in range(60)]])


def append(
    blocks: Blocks | None = None,
    *,
    sender: str = "r001",
    events: Sequence[tuple[int, EventRecord]] = (),
    dead_letters: Sequence[DeadLetter] = (),
    received: int = 1_800_000_000,
) -> Append:
    """Return the core's change for a good batch."""
    given = blocks if blocks is not None else make_blocks([], [], [])
    return Append(
        sender=sender,
        owner="r001",
        received=received,
        blocks=given,
        payloads=pack(given),
        events=list(events),
        dead_letters=list(dead_letters),
    )


def batch(
    blocks: Blocks | None = None,
    *,
    owner: str = "r001",
    events: Sequence[tuple[int, EventRecord]] = (),
    dead_letters: Sequence[DeadLetter] = (),
    payloads: list[bytes] | None = None,
) -> Batch:
    """Return a batch as a gateway relays it."""
    given = blocks if blocks is not None else make_blocks([], [], [])
    return Batch(
        owner=owner,
        store=7,
        sequence=3,
        time=1_800_000_000,
        trust=Trust.NETWORK,
        keys=given.keys(),
        payloads=Payloads.of(payloads or pack(given)),
        events=list(events),
        dead_letters=list(dead_letters),
    )
