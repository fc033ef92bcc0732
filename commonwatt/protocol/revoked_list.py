"""The list of revoked controllers as text, which the authority signs and any meter can check (docs/protocol.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import ControllerId
from commonwatt.protocol.meter_messages import Refusal
from commonwatt.protocol.topics import MICROGRID_PATTERN

PURPOSE = "revoked controllers"  # what the authority's signature is for
MAX_LISTED = 400  # most controllers in a list, so that it fits into a command

_CONTROLLER = rf" {MICROGRID_PATTERN}:[1-9]\d{{0,4}}"
_FORM = re.compile(rf"[1-9]\d{{0,15}}(?:{_CONTROLLER}){{0,{MAX_LISTED}}}", re.ASCII)


@dataclass(frozen=True)
class RevokedList:
    """The controllers that are revoked; a list with a higher number replaces it whole."""

    number: int = 0  # rises at each change; 0: no list yet
    ranks: Mapping[ControllerId, int] = field(default_factory=dict)  # the rank of each, by name

    @property
    def text(self) -> str:
        """What is signed, such as ``1790000000 r002:2 r007:7``."""
        return " ".join([str(self.number), *(f"{name}:{rank}" for name, rank in self.ranks.items())])

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the text of a list.

        Raises:
            ProtocolError: It is of another form, or too long.
        """
        if _FORM.fullmatch(text) is None:
            raise ProtocolError(Refusal.MALFORMED, "no list of revoked controllers: NUMBER NAME:RANK ...")
        number, *rows = text.split(" ")
        return cls(int(number), {name: int(rank) for name, _, rank in (row.partition(":") for row in rows)})
