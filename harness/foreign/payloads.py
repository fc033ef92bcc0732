"""Broken messages of foreign meters beside good ones: no crash, and the good ones' energy is exact.

``python -m harness.foreign.payloads --cases N`` sends N broken messages through an adapter's core.
"""

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path

from adapters.core import Adapter, foreign_meter
from adapters.mapping.readers import Readers, known_presets, readers_of
from adapters.messages import Arrived
from commonwatt.config.adapter import AdapterSettings
from commonwatt.device.changes import DesiredStates, MeterState, StoredMeter
from commonwatt.device.meter import MeterCore, MeterLimits
from commonwatt.model.records import RecordType
from harness.foreign.devices import Edge, Metric

RECORDINGS = Path(__file__).parents[2] / "tests" / "unit" / "adapters" / "recordings"
T = 1_790_000_100
_GOOD = 1
_OWN: list[dict[str, object]] = [
    {"topic": "{device}/lines", "format": "csv", "path": "2", "time": "1"},
    {"topic": "{device}/float", "format": "bytes", "float32": True},
    {"topic": "{device}/german", "number": "de", "path": ["a", "b"], "factors": [65536, 1], "unit_path": "u"},
    {"topic": "{device}/hex", "format": "plain", "number": "hex"},
    {"topic": "spBv1.0/{device}/+/node", "format": "sparkplug", "path": "Energy", "rebirth": True},
]
_LINES = [
    b"1790000100;12.5;3",
    b"\x42\xf6\xe9\x79",
    b'{"a":"1.234,5 kWh","b":"1","u":"Wh"}',
    b"0x1E240",
]


def core() -> Adapter:
    """Return an adapter with a meter of every preset, and one plain meter that only hears good messages."""
    presets = sorted(known_presets())
    settings = AdapterSettings.model_validate(
        {
            "microgrid": "r001",
            "rule": [{"preset": f"own-{n}", "kind": "register", "unit": "kWh"} | rule for n, rule in enumerate(_OWN)],
            "meter": [{"id": _GOOD, "preset": "plain", "source": "good"}]
            + [{"id": 1000 + n, "preset": f"own-{n}", "source": "broken"} for n in range(len(_OWN))]
            + [
                {"id": n, "preset": preset, "source": "broken", "direction": direction, "capacity_wh": 10_000}
                for n, (preset, direction) in enumerate(
                    ((preset, _direction(preset)) for preset in presets if preset != "plain"), 2
                )
            ],
        }
    )
    return core_of(settings, readers_of(settings))


def core_of(settings: AdapterSettings, readers: Readers) -> Adapter:
    """Return an adapter's core whose meters have nothing yet."""
    meters = {
        meter.id: MeterCore(
            foreign_meter("r001", meter, readers),
            MeterLimits(resolution=1),
            StoredMeter(
                state=MeterState(meter=meter.id, generation=1), desired_states=DesiredStates(meter.id, (0, 0), {})
            ),
            Counter(),
        )
        for meter in settings.meter
    }
    return Adapter(settings=settings.meter, readers=readers, meters=meters, channels={}, handled={}, tally=Counter())


def _direction(preset: str) -> str:
    directions = {rule.direction for rule in known_presets()[preset].rules}
    return "incoming" if directions & {None, "incoming"} else "outgoing"


def broken(rng: random.Random, samples: list[bytes]) -> bytes:
    """Return a payload that is cut, mutated, nested, huge or random."""
    payload = bytearray(rng.choice(samples))
    match rng.randrange(6):
        case 0:
            return bytes(payload[: rng.randrange(len(payload) + 1)])
        case 1:
            for _ in range(rng.randrange(1, 6)):
                payload[rng.randrange(len(payload))] = rng.randrange(256)
            return bytes(payload)
        case 2:
            return rng.randbytes(rng.randrange(200))
        case 3:
            value = rng.choice(["1e999999999", "-1e30", "Infinity", "true", "[]", "{}", '"\\ud800"', "9" * 400, "null"])
            text = bytes(payload).decode(errors="replace")
            digits = [n for n, char in enumerate(text) if char.isdigit()]
            at = rng.choice(digits) if digits else 0
            return (text[:at] + value + text[at + 1 :]).encode()
        case 4:
            return b"[" * rng.randrange(1, 100_000)
        case _:
            return bytes(payload) * rng.randrange(1, 300)


def run(cases: int, seed: int) -> tuple[int, Counter[tuple[str, str]]]:
    """Return the energy of the good meter, milliwatt-hours, and the counts; it has a kilowatt-hour for 1,000 cases."""
    rng = random.Random(seed)
    adapter = core()
    lines = [json.loads(line) for path in RECORDINGS.glob("*.jsonl") for line in path.read_text().splitlines()]
    edge = Edge()
    samples = [str(line["payload"]).encode() for line in lines if line.get("payload")] + 50 * _LINES
    samples += [edge.born(1000 * T, Metric(name="Energy", alias=n, double_value=n + 0.5))[1] for n in range(50)]
    topics = sorted(
        {
            reader.topics[0].replace("+", "NBIRTH" if reader.rule.format == "sparkplug" else "x").replace("#", "x")
            for reader in adapter.readers[None].all
            if reader.meter != _GOOD
        }
    )
    for n in range(cases + 1):
        now = T + n * 15
        adapter.message(Arrived("good", f"{100 + n / 1000:.3f}".encode(), False, now * 1000))
        if n < cases:
            adapter.message(Arrived(rng.choice(topics), broken(rng, samples), rng.random() < 0.1, now * 1000 + 1))
    return adapter.channels[_GOOD, RecordType.THROUGH].counter.total, adapter.tally


def main() -> int:
    """Send many broken messages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    energy, tally = run(given.cases, given.seed)
    print(f"{given.cases:,} broken messages;", ", ".join(f"{n:,} {k} {v}" for (k, v), n in tally.most_common(12)))
    if energy != given.cases * 1000:
        print(f"the good meter has {energy} mWh instead of {given.cases * 1000}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
