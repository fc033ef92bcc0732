"""Recordings of the seeded worlds: each is replayed from its file alone, and must end with the same hash.

``python -m harness.care.recordings [SEEDS]`` prints how many of them did.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect
from commonwatt.model.ids import MeterId
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import Change
from gateway.events import Event, Hosted
from gateway.recorder.recorder import Recorder
from gateway.recorder.recording import read_recording, write_recording
from gateway.recorder.replay import Replayed, replay
from harness.world import run
from harness.world.gateway import GatewayNode
from harness.world.story import Violation
from harness.world.world import Options, World

ABOUT = {"release": "test", "controller": "r001", "time": 0, "reason": "a test", "blanked": False}


class RecordedGateway(GatewayNode):
    """A gateway whose core is recorded."""

    recorder: Recorder

    def build(self) -> None:
        super().build()
        self.recorder = Recorder(self.settings, self.store, self.meters)
        self.controller = self.recorder.controller

    def host_again(self) -> None:
        store = self.recorder.tape.of(self.store)
        self._handle(Hosted(self.name, store, self.meters, is_again=True), self.clock())
        self.core.reopened(self.clock())

    def _handle(self, event: Event, now: int) -> list[Effect[Change]]:
        return self.recorder.handle(self.name, event, now)


class RecordedWorld(World):
    """A world whose gateways are recorded."""

    def make_gateway(self, settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter]) -> GatewayNode:
        return RecordedGateway(self, settings, meters, self.brokers[settings.microgrid], self.head_end)


def recorded(seed: int, folder: Path, hours: float = 1.0, *, faulty: bool = False) -> list[Path]:
    """Run the world of a seed; return the recordings of its gateways, which may be faulty."""
    options = Options(hours=hours)
    with run.few(options) as planted:
        world = RecordedWorld(seed, options, planted.unsynced)
        try:
            world.run()
        except Violation:
            if not faulty:
                raise
        paths = []
        for name, gateway in world.gateways.items():
            paths.append(folder / f"{seed}-{name}.cwr")
            write_recording(paths[-1], ABOUT, cast("RecordedGateway", gateway).recorder.frames())
        world.close()
    return paths


def replayed(path: Path) -> Replayed | None:
    """Replay a recording with the right core; return the last input, or the first that differs."""
    with run.few(Options()):
        *_, last = [None, *replay(read_recording(path))]
    return last


def main(seeds: int) -> None:
    same = inputs = size = count = 0
    for seed in range(1, seeds + 1):
        with TemporaryDirectory() as folder:
            for path in recorded(seed, Path(folder)):
                last = replayed(path)
                assert last is not None
                count, inputs, size = count + 1, inputs + last.number, size + path.stat().st_size
                same += not last.differs
                if last.differs:
                    print(f"{path.name}: input {last.number} of {last.entry.event!r:.300}: {last.differs}")
    print(f"{same} of {count} recordings replay to the same hash: {inputs:,} inputs, {size / count:,.0f} bytes each")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
