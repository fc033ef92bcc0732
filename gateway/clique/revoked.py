"""Which meters are sent the list of revoked controllers: each until it answers, whoever manages it (R5)."""

from collections import Counter
from collections.abc import Collection, Mapping

from commonwatt.model.effects import Publish
from commonwatt.model.ids import MeterId
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import Command, Result
from commonwatt.protocol.topics import COMMANDS, meter_down
from commonwatt.town.revoked_file import SignedList

AGAIN_S = 300.0  # seconds between two rounds to the meters that have not answered; a broker drops what nobody hears
SOON_S = 30.0  # seconds after which a meter that is heard, and has not answered, is sent it again
FORGET_S = 86_400.0  # seconds after which all meters get it again: one may have been exchanged
AT_ONCE = 5  # meters of one step of 0.1 s, since each message has up to 10 kB


class RevokedOffer:
    """The list, and which meters have answered it lately.

    Args:
        signed: The list; ``None``: there is none, and nothing is sent.
    """

    def __init__(self, own: ControllerId, signed: SignedList | None) -> None:
        self.answered: dict[MeterId, Result] = {}  # the answer of each meter that answered
        self._own, self._signed = own, signed
        self._round: list[tuple[MicrogridId, MeterId]] = []
        self._heard: dict[MeterId, float] = {}
        self._next = self._forget = 0.0

    def view(self) -> dict[str, object]:
        """Return what /status shows of it, as JSON; empty without a list."""
        if self._signed is None:
            return {}
        return {"revoked": {"list": self._signed.text, "answers": dict(Counter(self.answered.values()))}}

    def heard(self, microgrid: MicrogridId, meter: MeterId, now: float) -> None:
        """Send it next to a meter that is connected, unless it has answered: it may leave again."""
        if self._signed is not None and meter not in self.answered and now >= self._heard.get(meter, now):
            self._heard[meter] = now + SOON_S
            self._round.insert(0, (microgrid, meter))

    def due(self, meters: Mapping[MicrogridId, Collection[MeterId]], now: float) -> list[Publish]:
        """Return the commands that are due.

        Args:
            meters: The registered meters of each microgrid that the gateway hosts.
            now: Seconds of a clock that never goes back.
        """
        if self._signed is None:
            return []
        if now >= self._forget:
            self._forget = now + FORGET_S
            self.answered.clear()
        if not self._round and now >= self._next:
            self._next = now + AGAIN_S
            self._round = [(name, meter) for name, each in meters.items() for meter in each]
        several, self._round = self._round[:AT_ONCE], self._round[AT_ONCE:]
        return [self._command(*one, self._signed) for one in several if one[1] not in self.answered]

    def _command(self, microgrid: MicrogridId, meter: MeterId, signed: SignedList) -> Publish:
        command = Command(
            id=f"{self._own}-revoked-{signed.read().number}",
            cmd="revoked",
            issuer=self._own,
            epoch=(0, 0),
            revoked=signed.text,
            signature=signed.signature,
        )
        return Publish(meter_down(microgrid, meter, COMMANDS), command.pack())
