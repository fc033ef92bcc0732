"""The fleet of the bench, which writes each command of its meters, and their answer, into a file."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from commonwatt.device.changes import MeterChange
from commonwatt.device.sessions import BrokerArrival, Sessions
from commonwatt.model.effects import Effect, Publish
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.topics import OUTCOMES

OBEYED = ("done", "partial", "repeated", "")  # the results of commands that a meter obeys


@dataclass(frozen=True)
class Commanded:
    """A command that came to a meter."""

    at: float  # when, of the machine's monotonic clock, seconds
    microgrid: str  # the meter's microgrid
    meter: int  # the meter
    via: str  # the broker over which it came
    cmd: str  # what was commanded
    issuer: str  # who commanded it
    epoch: Epoch  # under which epoch
    result: str  # the meter's answer; ``""``: it answers by data alone

    @property
    def obeyed(self) -> bool:
        """Whether the meter obeyed it: its epoch is the meter's."""
        return self.result in OBEYED and self.epoch[0] > 0


def watch(path: str) -> None:
    """Write down from now on what the meters of this process are commanded."""
    file = Path(path).open("a", buffering=1)  # noqa: SIM115  # until the process ends
    obey = Sessions._commanded

    def watched(self: Sessions, arrived: BrokerArrival, now: float) -> list[Effect[MeterChange]]:
        effects = obey(self, arrived, now)
        _write(file, self, arrived, effects)
        return effects

    Sessions._commanded = watched  # type: ignore[method-assign]


def _write(file: TextIO, sessions: Sessions, arrived: BrokerArrival, effects: Sequence[Effect[MeterChange]]) -> None:
    content = json.loads(arrived.payload)
    answers = [e for e in effects if isinstance(e, Publish) and e.topic.endswith(f"/{OUTCOMES}")]
    results = [json.loads(answer.payload)["result"] for answer in answers]
    line = Commanded(
        at=time.monotonic(),
        microgrid=sessions.meter.description.microgrid,
        meter=arrived.meter,
        via=arrived.via,
        cmd=content["cmd"] if content["cmd"] != "get" else f"get {content.get('what')}",
        issuer=content["issuer"],
        epoch=tuple(content["epoch"]),
        result=results[0] if results else "",
    )
    file.write(json.dumps(asdict(line)) + "\n")


def read(path: Path) -> Iterator[Commanded]:
    """Yield what was written so far."""
    if not path.exists():
        return
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            fields = json.loads(line)
            yield Commanded(**fields | {"epoch": tuple(fields["epoch"])})
