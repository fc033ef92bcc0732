"""Relaying to the utility, and doing what the utility asks (C1, C6, design 4.2).

The outbox is simply what the utility has not acknowledged. A batch is built from it, joined per block; what is in
flight is remembered in memory only, since sending anything again is harmless.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace

import numpy as np

from commonwatt.batches import (
    NO_FLAGS,
    Batch,
    BatchAck,
    BatchFlag,
    BatchRefusal,
    Letter,
)
from commonwatt.blocks import Blocks, average, flags_of, join, mask_of
from commonwatt.commands import BlockMask, ControllerCommand, ControllerOutcome
from commonwatt.effects import Effect, Publish, Write
from commonwatt.exceptions import ProtocolError
from commonwatt.messages import Trust
from commonwatt.packing import pack, unpack
from commonwatt.records import EventRecord
from commonwatt.topics import BATCHES, OUTCOMES, gateway_up
from commonwatt.units import QUARTER_S, EpochSeconds, MeterId
from gateway.changes import (
    UNSENT,
    AddLetters,
    Change,
    ForgetRelayed,
    Part,
    Relayed,
    ReplaceParts,
    Setting,
)
from gateway.store import Store

BATCH_PARTS = 1000
"""Parts taken into one batch, at most."""

BATCH_PART_BYTES = 180_000
"""Bytes of parts taken into one batch, at most: with the events and letters it stays below ``MAX_BATCH_BYTES``."""

BATCH_EVENTS = 1000
"""Events taken into one batch, at most."""

BATCH_LETTERS = 40
"""Letters (of a kilobyte at most) taken into one batch, at most."""

ANSWER_BLOCKS = 80
"""Blocks in one answer to a get: as many of the longest payloads as fit."""

WINDOW = 4
"""Batches in flight at once."""

ACK_WITHIN_S = 120
"""A batch that is not acknowledged by then is sent again."""

MAX_WANTED = 50_000
"""Blocks the utility may have asked for and not yet got; a get beyond that is done in part, and says so."""

UNKNOWN_FOR_S = 900
"""So long what a meter sent waits after the utility said that it does not know the meter."""

SETTLED_S = 60
"""Seconds after its end at which a quarter is taken for finished."""

DAMAGED = 200
"""Reason of a letter that holds a stored part whose checksum does not match."""

_KEPT_OUTCOMES = 100


@dataclass(frozen=True)
class InFlight:
    """A batch that was sent and not acknowledged."""

    sent: EpochSeconds
    done: tuple[int, ...]
    averaged: tuple[int, ...]
    events: tuple[tuple[int, int, int], ...]
    letters: tuple[int, ...]
    wanted: tuple[tuple[int, int, int], ...]
    slots: int = 0
    meters: frozenset[MeterId] = frozenset()


@dataclass
class Counts:
    """What was relayed since the start; read by the metrics."""

    batches: Counter[str] = field(default_factory=Counter)
    blocks: int = 0
    damaged: int = 0


class Relay:
    """Builds batches, takes their acknowledgements, does the utility's commands.

    Attributes:
        mode: How what is relayed is aggregated: ``none``, ``lossless`` or ``lossy``.
        mode_until: When that ends; ``None``: when told.
        more: Whether the last batch left something unsent behind.
    """

    def __init__(self, microgrid: str, store: Store) -> None:
        self.counts = Counts()
        self.more = False
        self.in_flight: OrderedDict[int, InFlight] = OrderedDict()
        self._microgrid = microgrid
        self._store = store
        self._wanted: OrderedDict[tuple[int, int, int], None] = OrderedDict()
        self._outcomes: OrderedDict[str, ControllerOutcome] = OrderedDict()
        self._utility_store = store.setting("utility_store")
        mode, _, until = (store.setting("aggregation") or "none,").partition(",")
        self.mode = mode
        self.mode_until = int(until) if until else None
        # The upper half counts starts, so that no number is used twice although only starts are written down.
        self._starts = int(store.setting("starts") or "0") + 1
        self._sequence = self._starts << 32
        self._one_by_one = False
        self._unknown: dict[MeterId, EpochSeconds] = {}

    def started(self) -> list[Effect[Change]]:
        """Return what must be written before the first batch is sent."""
        return [Write(Setting("starts", str(self._starts)))]

    # Sending

    def send(self, now: EpochSeconds, flags: BatchFlag = NO_FLAGS) -> list[Effect[Change]]:
        """Send what is unsent, as far as the window allows."""
        effects = self._expire(now)
        while len(self.in_flight) < WINDOW:
            batch = self._answer(now) or self._next(now, flags)
            if batch is None:
                break
            effects += batch
        return effects

    def _expire(self, now: EpochSeconds) -> list[Effect[Change]]:
        """Give up batches without acknowledgement; what they held is unsent, and goes into new ones."""
        for sequence in [s for s, batch in self.in_flight.items() if now - batch.sent >= ACK_WITHIN_S]:
            self.counts.batches["expired"] += 1
            self._again(sequence)
        if self.mode_until is not None and self.mode_until <= now:
            return self._aggregate("none", None)
        return []

    def _again(self, sequence: int) -> InFlight:
        """Take a batch out of flight; what it held is unsent again."""
        batch = self.in_flight.pop(sequence)
        self._wanted.update(dict.fromkeys(batch.wanted))
        return batch

    def _next(self, now: EpochSeconds, flags: BatchFlag) -> list[Effect[Change]] | None:
        """Build a batch of unsent parts, events and letters that are in no batch in flight."""
        before = (now - SETTLED_S) // QUARTER_S if self.mode != "none" else 2**32
        self._unknown = {meter: since for meter, since in self._unknown.items() if now - since < UNKNOWN_FOR_S}
        flying = {part for batch in self.in_flight.values() for part in (*batch.done, *batch.averaged)}
        parts = self._store.unsent_parts(before, BATCH_PARTS + len(flying), without=self._unknown)
        parts = [part for part in parts if part.id not in flying][:BATCH_PARTS]
        flying_events = {key for batch in self.in_flight.values() for key in batch.events}
        events = [
            (generation, event)
            for generation, event in self._store.unsent_events(BATCH_EVENTS + len(flying_events), without=self._unknown)
            if (event.meter_id, generation, event.record_id) not in flying_events
        ][:BATCH_EVENTS]
        flying_letters = {number for batch in self.in_flight.values() for number in batch.letters}
        letters = self._store.unsent_letters(BATCH_LETTERS + len(flying_letters))
        letters = [letter for letter in letters if letter[0] not in flying_letters][:BATCH_LETTERS]
        if not parts and not events and not letters:
            self._one_by_one = False
            return None
        sizes = np.cumsum([len(part.payload) for part in parts])
        fitting = parts[: int(np.searchsorted(sizes, BATCH_PART_BYTES))]
        if self._one_by_one:
            meter = fitting[0].key[0] if fitting else events[0][1].meter_id if events else None
            fitting = [part for part in fitting if part.key[0] == meter]
            events = [(generation, event) for generation, event in events if event.meter_id == meter]
        self.more = len(fitting) < len(parts) or len(parts) == BATCH_PARTS
        parts = fitting
        good, whole, effects = self._load(parts, now)
        blocks = average(whole) if self.mode == "lossy" else whole
        coarse = {
            key for key, lost in zip(whole.keys(), (blocks.quality != whole.quality).any(axis=1), strict=True) if lost
        }
        memory = InFlight(
            sent=now,
            # With the damaged ones, so that they are not taken again before they are gone.
            done=tuple(part.id for part in parts if part.key not in coarse),
            averaged=tuple(part.id for part in good if part.key in coarse),
            events=tuple((e.meter_id, g, e.record_id) for g, e in events),
            letters=tuple(number for number, _ in letters),
            wanted=(),
        )
        return [*effects, self._batch(blocks, events, [letter for _, letter in letters], memory, now, flags)]

    def _answer(self, now: EpochSeconds) -> list[Effect[Change]] | None:
        """Build a batch of blocks the utility asked for, exact and whole."""
        keys = tuple(list(self._wanted)[:ANSWER_BLOCKS])
        if not keys:
            return None
        for key in keys:
            del self._wanted[key]
        good, blocks, effects = self._load(self._store.block_parts(keys), now)
        memory = InFlight(now, tuple(part.id for part in good), (), (), (), keys)
        return [*effects, self._batch(blocks, [], [], memory, now, BatchFlag.ANSWER)]

    def _batch(
        self,
        blocks: Blocks,
        events: list[tuple[int, EventRecord]],
        letters: list[Letter],
        memory: InFlight,
        now: EpochSeconds,
        flags: BatchFlag,
    ) -> Publish:
        self._sequence += 1
        self.in_flight[self._sequence] = replace(
            memory,
            slots=int((blocks.quality > 0).sum()),
            meters=frozenset(blocks.meter.tolist()) | {event.meter_id for _, event in events},
        )
        self.counts.batches["sent"] += 1
        self.counts.blocks += len(blocks)
        batch = Batch(
            owner=self._microgrid,
            store=self._store.store_id,
            sequence=self._sequence,
            time=now,
            trust=Trust.HARDWARE,
            flags=flags,
            keys=blocks.keys(),
            payloads=pack(blocks),
            events=events,
            letters=letters,
        )
        return Publish(gateway_up(self._microgrid, BATCHES), batch.pack())

    def _load(self, parts: list[Part], now: EpochSeconds) -> tuple[list[Part], Blocks, list[Effect[Change]]]:
        """Join parts; set aside those whose checksum does not match (design 4.5): nothing damaged is taken for good."""
        good, effects = parts, list[Effect[Change]]()
        try:
            blocks = _unpacked(parts)
        except ProtocolError:
            good = [part for part in parts if not _is_damaged(part)]
            blocks = _unpacked(good)
            for part in (part for part in parts if part not in good):
                self.counts.damaged += 1
                letter = Letter(
                    meter=part.key[0],
                    log=0,
                    reason=DAMAGED,
                    generation=0,
                    record_id=part.id,
                    time=now,
                    content=part.payload,
                )
                effects += [Write(AddLetters((letter,))), Write(ReplaceParts((part.id,), None))]
        return good, join([blocks]), effects

    # Acknowledgements

    def acknowledged(self, ack: BatchAck, now: EpochSeconds) -> list[Effect[Change]]:
        """Take in an acknowledgement: note what the utility has."""
        batch = self.in_flight.get(ack.sequence)
        if ack.store != self._store.store_id or batch is None:
            self.counts.batches["stray_ack"] += 1
            return []
        if ack.status is not BatchRefusal.NONE:
            self.counts.batches[f"refused_{ack.status.name.lower()}"] += 1
            refused = self._again(ack.sequence)
            if ack.status is BatchRefusal.NOT_REGISTERED:
                # One meter the utility does not know must not hold up the rest: find it out, one meter a batch.
                self._one_by_one = True
                if len(refused.meters) == 1:
                    self._unknown |= dict.fromkeys(refused.meters, now)
            return []  # The next period tries again; at once would only be refused at once.
        effects: list[Effect[Change]] = []
        if self._utility_store != str(ack.utility_store):
            if self._utility_store is not None:
                effects.append(Write(ForgetRelayed()))
            self._utility_store = str(ack.utility_store)
            effects.append(Write(Setting("utility_store", self._utility_store)))
        del self.in_flight[ack.sequence]
        self.counts.batches["acknowledged"] += 1
        effects.append(Write(Relayed(batch.done, batch.averaged, batch.events, batch.letters, batch.slots)))
        return effects

    # The utility's commands

    def get(self, command: ControllerCommand, now: EpochSeconds) -> list[Effect[Change]]:
        """Relay what is asked for; say which slots are not here."""
        absent: list[BlockMask] = []
        if command.blocks is not None:
            keys = [(meter, record_type, quarter) for meter, record_type, quarter, _ in command.blocks]
            _, held, effects = self._load(self._store.block_parts(keys), now)
            have = {key: held.quality[row] > 0 for row, key in enumerate(held.keys())}
            for meter, record_type, quarter, mask in command.blocks:
                here = have.get((meter, record_type, quarter), np.zeros(60, np.bool_))
                lacking = mask_of(flags_of(int(mask, 16)) & ~here)
                if lacking:
                    absent.append((meter, record_type, quarter, f"{lacking:x}"))
            keys = [key for key in keys if key in have]
        else:
            effects = []
            last = 2**32 - 1 if command.last_quarter is None else command.last_quarter
            keys = self._store.keys_between(command.first_quarter or 0, last, MAX_WANTED)
        room = keys[: max(0, MAX_WANTED - len(self._wanted))]
        self._wanted.update(dict.fromkeys(room))
        outcome = ControllerOutcome(
            id=command.id,
            cmd=command.cmd,
            result="done" if len(room) == len(keys) else "partial",
            time=now,
            sent=len(room),
            absent=absent,
        )
        return [*effects, *self.send(now), self.answer(outcome)]

    def aggregate(self, command: ControllerCommand, now: EpochSeconds) -> list[Effect[Change]]:
        """Aggregate what is relayed, or stop it (C6); exact parts stay here and are sent when asked for."""
        mode = "none" if command.cmd == "deaggregate" else command.mode
        return self._aggregate(mode, None if command.for_s is None or mode == "none" else now + command.for_s)

    def _aggregate(self, mode: str, until: EpochSeconds | None) -> list[Effect[Change]]:
        self.mode, self.mode_until = mode, until
        return [Write(Setting("aggregation", f"{mode},{until or ''}"))]

    def answer(self, outcome: ControllerOutcome) -> Publish:
        """Make the outcome of a command, and remember it in case the command comes again."""
        self._outcomes[outcome.id] = outcome
        while len(self._outcomes) > _KEPT_OUTCOMES:
            self._outcomes.popitem(last=False)
        return Publish(gateway_up(self._microgrid, OUTCOMES), outcome.pack())

    def repeated(self, command_id: str) -> ControllerOutcome | None:
        """Return the outcome of a command that was done before."""
        return self._outcomes.get(command_id)

    # Housekeeping

    def continues(self, now: EpochSeconds) -> list[Effect[Change]]:
        """Send on, if the last batches left something behind and the window has room again."""
        return self.send(now) if (self.more or self._wanted) and len(self.in_flight) < WINDOW else []

    def compact(self, now: EpochSeconds, limit: int = 500) -> list[Effect[Change]]:
        """Join the parts of finished quarters that the utility has; the joined part stays as backup."""
        keys = self._store.keys_to_compact((now - SETTLED_S) // QUARTER_S, limit)
        good, blocks, effects = self._load(self._store.block_parts(keys), now)
        members: dict[tuple[int, int, int], list[Part]] = {}
        for part in good:
            members.setdefault(part.key, []).append(part)
        for key, payload in zip(blocks.keys(), pack(blocks), strict=True):
            relayed = {part.relayed for part in members[key]}
            if UNSENT not in relayed:
                ids = tuple(part.id for part in members[key])
                effects.append(Write(ReplaceParts(ids, Part(0, key, payload, min(relayed), joined=True))))
        return effects


def _unpacked(parts: list[Part]) -> Blocks:
    return unpack([part.key for part in parts], [part.payload for part in parts])


def _is_damaged(part: Part) -> bool:
    try:
        _unpacked([part])
    except ProtocolError:
        return True
    return False
