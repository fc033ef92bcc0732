"""What the utility counts of messages, readings and gaps."""

from prometheus_client import Histogram

from utility.database.health import DISK_FULL, STORE_DAMAGED
from utility.database.metrics import PREFIX, Count, Metrics
from utility.outbox.changes import Committed
from utility.readings.store.quarantine import count_quarantined
from utility.readings.store.reads import count_conflicts, count_open_gaps

# Label values shown from the start as 0: an alert then sees the first of each, and a panel shows 0 instead of no data.
_RESULTS = (
    "stored",
    "stored_for_another",
    "not_assigned",
    "seen",
    "outcome",
    "plant",
    "malformed",
    "dropped",
    "store_error",
    "failed",
    STORE_DAMAGED,
    DISK_FULL,
)
_REASONS = (
    "unknown_owner",
    "unknown_meter",
    "other_type",
    "quarantine_full",
    "dead_letters_full",
    "malformed",
    "checksum",
    "bad_payload",
)

COUNTS = (
    Count(
        name="gaps_open_blocks",
        text="Blocks with missing slots that are being requested.",
        of=count_open_gaps,
    ),
    Count(
        name="quarantined_open_dead_letters",
        text="Dead letters with quarantined readings that wait for a decision.",
        of=count_quarantined,
    ),
    Count(
        name="conflicting_slots",
        text="Slots of stored readings with more than one value.",
        of=count_conflicts,
    ),
)


class ReadingsMetrics:
    """The metrics of what gateways send, and of what is made of it."""

    def __init__(self, metrics: Metrics) -> None:
        self.store_errors = metrics.store_errors
        self.messages = metrics.counter("messages", "Messages from gateways, by result.", "result")
        self.refusals = metrics.counter("refusals", "Batches of registered gateways refused, by reason.", "reason")
        self.unknown_states = metrics.counter(
            "unknown_states", "Events stored with state bits unknown to this version."
        )
        self.compacted = metrics.counter("compacted_blocks", "Blocks compacted.")
        self.damaged = metrics.counter("damaged_parts", "Stored parts that failed their check and were quarantined.")
        self.asked = metrics.counter("gap_blocks_asked", "Blocks requested again from gateways.")
        self.queue = metrics.gauge("queue_messages", "Messages waiting to be committed.")
        self.commit_seconds = Histogram(
            f"{PREFIX}_commit_seconds",
            "Real time from taking messages from the queue until they are durable.",
            registry=metrics.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        slots = "Readings committed in parts of blocks; a reading sent again counts again."
        letters = "New dead letters committed, including those with quarantined readings."
        waiting = "New dead letters with readings that wait for a person's decision."
        # By the names of ``Committed``.
        self._committed = {
            "batches": metrics.counter("batches", "Batches committed."),
            "blocks": metrics.counter("blocks", "Parts of blocks committed; a part sent again counts again."),
            "slots": metrics.counter("slots", slots),
            "events": metrics.counter("events", "New events committed."),
            "dead_letters": metrics.counter("dead_letters", letters),
            "quarantined": metrics.counter("quarantined_dead_letters", waiting),
            "event_conflicts": metrics.counter("event_conflicts", "Events that contradict a stored event."),
        }
        for result in _RESULTS:
            self.messages.labels(result)
        for reason in _REASONS:
            self.refusals.labels(reason)

    def committed(self, counts: Committed) -> None:
        """Add the counts of a committed transaction."""
        for name, count in vars(counts).items():
            self._committed[name].inc(count)
