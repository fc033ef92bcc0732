"""The sessions of a meter with its brokers: what is sent to which, and which commands are obeyed."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from commonwatt.device.brokers import Brokers
from commonwatt.device.changes import BrokerOrder, KeptRevoked
from commonwatt.device.commands.desired_states import DONE, Verdict
from commonwatt.device.commands.questions import ANSWER_S
from commonwatt.device.meter import Effects, Meter
from commonwatt.model.effects import Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.ids import MeterId
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Command
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.revoked_list import RevokedList

_DATA = (topics.RECORDS, topics.EVENTS)


class Arrived(NamedTuple):
    """A message, or the begin or end of a session."""

    meter: MeterId
    via: str  # the broker's name
    leaf: str  # last part of the topic; ``CONNECTED`` or ``LOST``
    payload: bytes = b""


CONNECTED, LOST = "+", "-"  # no topic of a meter ends so


class Sessions:
    """A meter with its brokers; all messages to and from the meter pass it.

    Args:
        is_signed: Whether a signature is the authority's, of a text; ``None``: no key of an authority is installed.
    """

    def __init__(self, meter: Meter, brokers: Brokers, is_signed: Callable[[str, str], bool] | None = None) -> None:
        self.meter = meter  # the meter
        self.brokers = brokers  # its brokers
        self._is_signed = is_signed
        meter.clique = brokers.clique

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due next; ``None``: not by itself."""
        times = (self.meter.wake_at, self.brokers.wake_at)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> Effects:
        """Do the due work; send data to another broker after missed acknowledgements, or back to the first one."""
        moves = [self.brokers.missed(log, now) for log in self.meter.overdue(now)]
        if self.brokers.tick(now) or any(moves):
            return self.routed([*self.meter.send_again(now), *self.meter.tick(now)])
        return self.routed(self.meter.tick(now))

    def handle(self, arrived: Arrived, now: float) -> Effects:
        """Handle a message, or the begin or end of a session."""
        via = arrived.via
        if arrived.leaf == LOST:
            self.brokers.lost(via, now)
            return []
        if via in self.brokers.revoked.ranks:
            return []
        if arrived.leaf == CONNECTED:
            if self._is_signed is not None:
                self.brokers.plan_visit(now)
            again = self.meter.send_again(now) if self.brokers.connected(via, now) else []
            return self.routed([*again, *self.meter.ask_again(via)], via)
        if arrived.leaf == topics.ACKS:
            self.brokers.answered(via)
        if arrived.leaf == topics.COMMANDS:
            return self.routed(self._commanded(arrived, now), via)
        return self.routed(self.meter.receive(arrived.leaf, arrived.payload, now, via), via)

    def _commanded(self, arrived: Arrived, now: float) -> Effects:
        """Refuse a command of another clique or rank; use another order of brokers; all else is the meter's."""
        obeyed = self.meter.receive
        try:
            command = unpack_json(Command, arrived.payload)
        except ProtocolError:
            return obeyed(arrived.leaf, arrived.payload, now, arrived.via)
        if command.cmd == "revoked":
            return self._leave(arrived, command, now)
        is_question = command.cmd == "get" and command.what == "manager"
        why_not = self.brokers.why_not(arrived.via, None if is_question else command.epoch)
        if why_not is not None:
            return self.meter.answer(command, Verdict("refused", why_not), now)
        if is_question and command.about in self.brokers.clique:
            self.brokers.dial(command.about, now + ANSWER_S)
        order = self._ordered(command, now)
        return [*order, *obeyed(arrived.leaf, arrived.payload, now, arrived.via)]

    def _leave(self, arrived: Arrived, command: Command, now: float) -> Effects:
        """Keep a signed list of revoked controllers that is newer than the kept one, and leave their brokers."""
        if self._is_signed is None:
            return self.meter.receive(arrived.leaf, arrived.payload, now, arrived.via)
        text = command.revoked or ""
        try:
            listed = RevokedList.read(text)
        except ProtocolError as error:
            return self.meter.answer(command, Verdict("refused", str(error)), now)
        if listed.number <= self.brokers.revoked.number:
            return self.meter.answer(command, Verdict("repeated"), now)
        if not self._is_signed(text, command.signature or ""):
            return self.meter.answer(command, Verdict("refused", "the authority did not sign this list"), now)
        again = self.meter.send_again(now) if self.brokers.leave(listed, now) else []
        kept = Write(KeptRevoked(self.meter.description.id, listed))
        return [kept, *again, *self.meter.answer(command, DONE, now)]

    def _ordered(self, command: Command, now: float) -> Effects:
        """Use the order of brokers of an ``initialize`` that the meter obeys."""
        is_obeyed = self.meter.desired_states.judge(command, self.meter.time(now)) == DONE
        if command.cmd != "initialize" or command.brokers is None or not is_obeyed:
            return []
        before = self.brokers.order
        again = self.meter.send_again(now) if self.brokers.set_order(command.brokers, now) else []
        is_same = self.brokers.order == before
        return [] if is_same else [Write(BrokerOrder(self.meter.description.id, command.brokers)), *again]

    def routed(self, effects: Effects, via: str = "") -> Effects:
        """Send data to the broker of data, and an answer to the broker from which the command came."""
        return [self._to(effect, via) if isinstance(effect, Publish) else effect for effect in effects]

    def _to(self, message: Publish, via: str) -> Publish:
        if message.via:
            return message
        is_data = message.topic.rpartition("/")[2] in _DATA
        return replace(message, via=self.brokers.data if is_data or not via else via)
