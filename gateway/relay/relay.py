"""Relaying to the utility (C1, docs/architecture.md): batches, their acknowledgements, and the backup.

Batches in flight are kept in memory only, since sending data again is harmless.
"""

from collections import OrderedDict
from dataclasses import replace

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import empty
from commonwatt.model.control import SETTLED_S
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import QUARTER_S, ControllerId, EpochSeconds, MeterId, MicrogridId
from commonwatt.protocol.batches import NO_FLAGS, SLOW_S, Batch, BatchAck, BatchFlag, BatchRefusal
from commonwatt.protocol.topics import BATCHES, gateway_up
from gateway.relay.outbox import (
    ANY_QUARTER,
    WINDOW,
    BatchSelection,
    Flying,
    InFlight,
    Mode,
    QuarterSpan,
    RelayCounts,
    Turns,
    load,
    select,
)
from gateway.relay.refill import REFILL_PARTS, Refill, RefillPace
from gateway.store.changes import (
    AVERAGED,
    RUN,
    STRETCH_S,
    AppendParts,
    Change,
    ForgetMore,
    ForgetRelayed,
    Key,
    Offered,
    Part,
    Relayed,
    Setting,
    Stored,
    missing,
)

ANSWER_BLOCKS = 80  # blocks in one answer to a get: as many of the longest payloads as fit
ACK_WITHIN_S = 120  # seconds after which the data of an unacknowledged batch is sent again, at the least
LONGEST_ACK_S = 8 * ACK_WITHIN_S
"""The same at the most: the wait is twice that for the last acknowledgement, and doubles when none comes.

Else a utility that is slower would get the same data again before it answers, and would be slower still."""
HOLD_S = 60  # seconds after a refusal in which no data is sent
# Seconds without an acknowledgement after which a gateway checks that the utility still has the same store.
HELLO_S = 3600
# Most blocks requested by the utility and not sent yet; a get beyond that is done in part (``partial``).
MAX_WANTED = 50_000
UNKNOWN_FOR_S = 900  # back-off for the records of an unregistered meter
# Rows marked as not acknowledged in one transaction when the utility has lost its store: more than a batch takes.
FORGET_ROWS = 2000
COMPACT_BLOCKS = 500  # blocks joined in one transaction


class Relay:
    """Sends batches and handles their acknowledgements.

    Attributes:
        commanded: The aggregation of relayed data that the utility set; ``none``: nothing is set.
        own: The aggregation that the gateway wants by itself, to save bytes.
        slow_until: Until when the utility wants whole quarter-hours only.
        in_flight: Batches sent and not acknowledged, by sequence.
        wanted: Blocks requested by the utility and not sent yet, in order.
        sending: Whether unsent data is to be sent now.
        urgent: Whether that is outside the schedule.
        greet: Whether the utility's store id is to be requested.
        compacting: Whether parts of finished quarters are to be joined now.
        refill: The backup that is sent again to a utility that lost its store.
    """

    def __init__(
        self, controller: ControllerId, microgrid: MicrogridId, store: Stored, turns: Turns, pace: RefillPace
    ) -> None:
        self.counts = RelayCounts()
        self.in_flight: OrderedDict[int, InFlight] = OrderedDict()
        self.wanted: OrderedDict[Key, None] = OrderedDict()
        self.sending = self.urgent = self.greet = self.compacting = False
        self.refill = Refill(store, pace)
        self._fresh = False
        self._controller = controller
        self._microgrid = microgrid
        self._store = store
        self._turns = turns
        self._ack_within_s = ACK_WITHIN_S
        self._utility_store, self._run = store.setting("utility_store"), store.setting(RUN)
        self._asks = self._uncommitted = False
        name, until, since = (store.setting("aggregation") or f"none,,{ANY_QUARTER}").split(",")
        self.commanded = Mode(name=name, until=int(until) if until else None, since=int(since))
        self.own = Mode()
        self.slow_until: EpochSeconds = 0
        # The upper half counts starts, so that no number is used twice although only the starts are stored.
        self._starts = int(store.setting("starts") or "0") + 1
        self._sequence = self._starts << 32
        self._more = False
        self._hold_until: EpochSeconds = 0
        self._heard: EpochSeconds = 0
        self._one_by_one = False
        self._unknown: dict[MeterId, EpochSeconds] = {}

    @property
    def mode(self) -> Mode:
        """The aggregation of relayed data in force."""
        return self.own if self.commanded.name == "none" else self.commanded

    def limit_bytes(self, name: str, late_s: int) -> None:
        """Set the aggregation that the gateway wants by itself, and by how much finished quarters are sent later."""
        if (name, late_s) != (self.own.name, self.own.late_s):
            since = self.own.since if name == self.own.name else ANY_QUARTER
            self.own = Mode(name=name, late_s=late_s, since=since)

    # Sending. Other methods only set flags; ``work`` sends after a commit, when the store has all data.

    def due(self, now: Now) -> None:
        """Mark relaying as due."""
        self.sending = True
        self._turns.due(self._microgrid, now)
        self.greet = self.greet or now - self._heard >= HELLO_S

    def connected(self) -> None:
        """Give up the batches in flight, so that their data is sent again; request the utility's store id."""
        for sequence in list(self.in_flight):
            self._give_up(sequence, lost=True)
        self._ack_within_s = ACK_WITHIN_S
        self.greet = True

    def shift(self, by_s: int, now: Now) -> list[Effect[Change]]:
        """Shift all deadlines after the time was set by ``by_s``, so that durations stay the same."""
        self.in_flight = OrderedDict((s, replace(b, sent=b.sent + by_s)) for s, b in self.in_flight.items())
        self._unknown = {meter: since + by_s for meter, since in self._unknown.items()}
        self._hold_until = max(0, self._hold_until + by_s)
        self._heard = max(0, self._heard + by_s)
        self.slow_until = max(0, self.slow_until + by_s)
        self.counts.shift(by_s)
        if self.commanded.until is None or not self.commanded.for_s:
            return []
        moved = self._set(replace(self.commanded, until=max(0, self.commanded.until + by_s)))
        # A time that may be wrong is not stored: after a restart the end could not be corrected.
        return moved if now.trust >= Trust.HARDWARE else []

    def work(self, now: Now) -> list[Effect[Change]]:
        """Send and compact what is due, after a commit."""
        self._uncommitted = False
        effects = self._expire(now) + self._begin_averages(now)
        if is_forgetting := any(self._store.forgetting().values()):
            # Compaction waits: a joined part is a new one, and would not be marked.
            effects.append(Write(ForgetMore(FORGET_ROWS)))
            self._more = True
        elif self.compacting:
            effects += self._compact(now)
        more = (self._more or self.wanted) and len(self.in_flight) < WINDOW
        if self.sending or self.greet or more:
            effects += self._send(now)
        return effects if is_forgetting else effects + self._refill(now)

    def _refill(self, now: Now) -> list[Effect[Change]]:
        """Send the next batch of a refill that is due, one at a time."""
        effects = self.refill.count()
        is_full = len(self.in_flight) >= WINDOW or self.refill.batch in self.in_flight
        if is_full or now < self._hold_until or not self.refill.is_due(now):
            return effects
        selection = self._select(now, QuarterSpan(before=self.refill.before, parts=REFILL_PARTS))
        if selection is None:
            return effects + self.refill.look(now)
        batch = self._batch(selection, now, NO_FLAGS)
        self.refill.batch = self._sequence
        self.refill.pace.sent(sum(len(each.payload) for each in batch if isinstance(each, Publish)), now)
        return effects + batch

    def _send(self, now: Now) -> list[Effect[Change]]:
        """Send unsent data, as far as the window allows; send an empty batch if only the store id is requested."""
        flags = BatchFlag.URGENT if self.urgent else NO_FLAGS
        effects: list[Effect[Change]] = []
        self._more = True
        # A due relay begins with the newest data; answers and the backlog follow, when it is this microgrid's turn.
        self._fresh = self._fresh or self.sending
        if self._fresh and len(self.in_flight) <= WINDOW and now >= self._hold_until:
            effects += self._next(now, flags)
            self._fresh = False
        effects += self._send_backlog(now, flags)
        if self.greet:
            effects += self.hello(now)
        self.sending = self.urgent = self.greet = False
        return effects

    def _send_backlog(self, now: Now, flags: BatchFlag) -> list[Effect[Change]]:
        """Send answers, then the newest of the backlog, as long as it is this microgrid's turn."""
        effects: list[Effect[Change]] = []
        while (self._more or self.wanted) and now >= self._hold_until:
            if len(self.in_flight) >= WINDOW or not self._turns.may_send(self._microgrid, now):
                return effects
            effects += self._answer(now) or self._next(now, flags)
        self._turns.rest(self._microgrid)
        return effects

    def hello(self, now: Now) -> list[Effect[Change]]:
        """Send an empty batch to test the connection and the utility's store, unless a batch is in flight.

        Also after a refusal, when nothing else is sent: a utility that receives nothing reconnects.
        """
        if self.in_flight:
            return []
        return self._batch(BatchSelection(blocks=empty(), done=()), now, NO_FLAGS)

    def _expire(self, now: Now) -> list[Effect[Change]]:
        """Give up batches without acknowledgement, so that new ones send their data; end a finished aggregation."""
        late = [s for s, batch in self.in_flight.items() if now - batch.sent >= self._ack_within_s]
        for sequence in late:
            self._give_up(sequence)
        if late:
            self._ack_within_s = min(2 * self._ack_within_s, LONGEST_ACK_S)
        if self.commanded.until is not None and self.commanded.until <= now:
            return self.aggregate("none", None)
        return []

    def _give_up(self, sequence: int, *, lost: bool = False) -> None:
        self.counts.batches["expired"] += 1
        self._turns.ended(self._microgrid, sequence, lost=lost)
        self.wanted.update(dict.fromkeys(self.in_flight.pop(sequence).wanted))

    def _next(self, now: Now, flags: BatchFlag) -> list[Effect[Change]]:
        """Build a batch of unsent data that is in no batch in flight, if there is any."""
        if not self._more:
            return []
        selection = self._select(now, QuarterSpan(first=self.refill.before))
        self._more = selection is not None and selection.more
        self._one_by_one = self._one_by_one and self._more
        if selection is None:
            return []
        effects: list[Effect[Change]] = []
        if self.mode.name == "lossy":
            # While averages may be sent, parts are marked before they are sent: averages and exact slots must not mix.
            effects.append(Write(Offered(selection.averaged + selection.done)))
        return effects + self._batch(selection, now, flags)

    def _select(self, now: Now, span: QuarterSpan) -> BatchSelection | None:
        self._unknown = {meter: since for meter, since in self._unknown.items() if now - since < UNKNOWN_FOR_S}
        # Without a trusted clock it is unknown which quarters are over: all parts are relayed as they come.
        mode = self.mode if now.trust >= Trust.HARDWARE else Mode()
        flying = Flying.of([batch.selection for batch in self.in_flight.values()])
        return select(self._store, now, mode, flying, self._unknown, one_meter=self._one_by_one, span=span)

    def _answer(self, now: Now) -> list[Effect[Change]]:
        """Build a batch of blocks that the utility requested, exact and whole, if there are any."""
        keys = tuple(list(self.wanted)[:ANSWER_BLOCKS])
        if not keys:
            return []
        for key in keys:
            del self.wanted[key]
        parts = self._store.block_parts(keys)
        ids = tuple(part.id for part in parts)
        selection = BatchSelection(blocks=load(parts), done=ids)
        return [Write(Offered(ids)), *self._batch(selection, now, BatchFlag.ANSWER, keys)]

    def _batch(
        self, selection: BatchSelection, now: Now, flags: BatchFlag, wanted: tuple[Key, ...] = ()
    ) -> list[Effect[Change]]:
        first: list[Effect[Change]] = []
        # Written until the store has it, since the changes of a failed step are lost.
        if self._store.setting("starts") != str(self._starts):
            first.append(Write(Setting("starts", str(self._starts))))
        flags |= BatchFlag.MARK | (BatchFlag.HISTORY if self._asks else NO_FLAGS)
        self._sequence += 1
        self.in_flight[self._sequence] = InFlight(now, selection, wanted)
        batch = Batch(
            owner=self._microgrid,
            store=self._store.store_id,
            sequence=self._sequence,
            time=now,
            trust=now.trust,
            flags=flags,
            keys=selection.blocks.keys(),
            payloads=pack(selection.blocks),
            events=list(selection.events),
            dead_letters=[dead_letter for _, dead_letter in selection.dead_letters],
        )
        packed = batch.pack()
        self.counts.sent(selection.blocks, len(packed), now)
        self._turns.sent(self._microgrid, self._sequence, len(packed), now)
        return [*first, Publish(gateway_up(self._controller, BATCHES), packed)]

    # Acknowledgements

    def acknowledged(self, ack: BatchAck, now: Now) -> list[Effect[Change]]:
        """Handle an acknowledgement: record what the utility has."""
        batch = self.in_flight.get(ack.sequence)
        if ack.store != self._store.store_id or batch is None:
            self.counts.batches["stray_ack"] += 1
            return []
        del self.in_flight[ack.sequence]
        self._turns.ended(self._microgrid, ack.sequence)
        self._ack_within_s = min(max(ACK_WITHIN_S, 2 * (now - batch.sent)), LONGEST_ACK_S)
        self._heard = now
        if ack.slow_s:
            self.slow_until = now + min(ack.slow_s, SLOW_S)
        if ack.status is not BatchRefusal.NONE:
            self._refused(batch, ack.status, now)
            return []
        sent = batch.selection
        if (ack.blocks, ack.events, ack.dead_letters) != (len(sent.blocks), len(sent.events), len(sent.dead_letters)):
            self.counts.batches["wrong_ack"] += 1
            return []
        self.counts.batches["acknowledged"] += 1
        compared = self._compare_store(ack, now)
        if not (sent.done or sent.averaged or sent.events or sent.dead_letters):
            return compared  # It was empty, to test the connection.
        self._uncommitted = True
        return [
            *compared,
            Write(
                Relayed(
                    done=sent.done,
                    averaged=sent.averaged,
                    events=sent.event_keys,
                    dead_letters=tuple(number for number, _ in sent.dead_letters),
                    slots=int((sent.blocks.quality > 0).sum()),
                    mark=ack.marks[0] if ack.marks else None,
                    period=now // STRETCH_S,
                )
            ),
        ]

    def _refused(self, batch: InFlight, status: BatchRefusal, now: Now) -> None:
        """Pause sending: an immediate retry would be refused again."""
        self.counts.batches[f"refused_{status.name.lower()}"] += 1
        self._hold_until = now + HOLD_S
        if status is BatchRefusal.NOT_REGISTERED:
            # One unregistered meter must not block the others: find it by batches of one meter each. A refused answer
            # is dropped; the utility requests again the blocks that it can accept.
            self._hold_until = now if batch.meters else now + HOLD_S
            self._one_by_one = True
            if len(batch.meters) == 1:
                self._unknown |= dict.fromkeys(batch.meters, now)
        else:
            self.wanted.update(dict.fromkeys(batch.wanted))

    def _compare_store(self, ack: BatchAck, now: Now) -> list[Effect[Change]]:
        """Send again what the utility's store does not have any more: in a new store all, else by its history."""
        store, run = str(ack.utility_store), str(ack.marks[0][0]) if ack.marks else self._run
        if (store, run) == (self._utility_store, self._run):
            return []
        known, compared = self._utility_store, self._run
        # An acknowledgement of this same step is not in the store's stretches yet.
        if known is not None and ack.marks and (len(ack.marks) == 1 or self._uncommitted):
            self._asks = self.greet = True
            return []
        self._utility_store, self._run, self._asks = store, run, False
        note: list[Effect[Change]] = [Write(Setting("utility_store", store))]
        note += [] if run is None else [Write(Setting(RUN, run))]
        if known is None:
            return note
        lacks = missing(self._store, ack.marks, is_new=compared is not None or store != known)
        if lacks is None:
            return note
        return [*note, *self.refill.begin(now), Write(ForgetRelayed(*lacks)), Write(ForgetMore(FORGET_ROWS))]

    # Housekeeping

    def aggregate(self, name: str, until: EpochSeconds | None) -> list[Effect[Change]]:
        """Set the aggregation of relayed data (C6); exact parts stay in the store, and are sent on request.

        ``until`` is the end of a duration: it is shifted when the time is set.
        """
        since = self.commanded.since if name == self.commanded.name == "lossy" else ANY_QUARTER
        return self._set(Mode(name=name, until=until, for_s=until is not None, since=since))

    def _set(self, mode: Mode) -> list[Effect[Change]]:
        self.commanded = mode
        until = "" if mode.until is None else mode.until
        return [Write(Setting("aggregation", f"{mode.name},{until},{mode.since}"))]

    def _begin_averages(self, now: Now) -> list[Effect[Change]]:
        """Start averages with the next quarter, once the time is trusted.

        Parts of that or later quarters may have been sent already, from meters whose clocks are ahead: these blocks are
        sent exactly.
        """
        if self.mode.name != "lossy" or self.mode.since != ANY_QUARTER or now.trust < Trust.HARDWARE:
            return []
        since = now // QUARTER_S + 1
        if self.mode is self.own:  # After a restart it begins again.
            self.own = replace(self.own, since=since)
            return [Write(Offered(since=since))]
        return [*self._set(replace(self.mode, since=since)), Write(Offered(since=since))]

    def _compact(self, now: Now) -> list[Effect[Change]]:
        """Join the parts of finished quarters that the utility has; the joined part stays as backup."""
        keys = self._store.keys_to_compact((now - SETTLED_S) // QUARTER_S, COMPACT_BLOCKS)
        self.compacting = len(keys) == COMPACT_BLOCKS
        parts = self._store.block_parts(keys)
        blocks = load(parts)
        members: dict[Key, list[Part]] = {}
        for part in parts:
            members.setdefault(part.key, []).append(part)
        effects: list[Effect[Change]] = []
        for key, payload in zip(blocks.keys(), pack(blocks), strict=True):
            relayed = min(part.relayed for part in members[key])
            assert relayed >= AVERAGED
            ids = tuple(part.id for part in members[key])
            effects.append(Write(AppendParts((Part(0, key, payload, relayed, joined=True),), instead_of=ids)))
        return effects
