"""What a flood costs the others: ``python -m benchmarks.flood --seconds 30`` prints the table of docs/architecture.md.

303 meters put once a minute to a real broker and a real gateway; one more client offers 5,000 messages a second.
"""

import argparse
import asyncio
import tempfile
from contextlib import nullcontext
from pathlib import Path

from tests.support.flood import Apartments, Delivery

FLOODS: dict[str, tuple[str, int] | None] = {
    "nobody": None,
    "its own topic, QoS 1": ("cw1/r001/{own}/u/rec", 1),
    "its own topic, QoS 0": ("cw1/r001/{own}/u/lvl", 0),
    "another's topic, QoS 1": ("cw1/r001/1/u/rec", 1),
}


async def measure(folder: Path, seconds: float) -> list[tuple[str, Delivery, int]]:
    """Return for each flood what was delivered, and the broker's memory then, in bytes."""
    apartments = Apartments(folder)
    with apartments.site:
        await apartments.connect()
        await apartments.load(2)  # What happens only once.
        rows = []
        for name, flood in FLOODS.items():
            topic, qos = flood or ("", 0)
            flooded = apartments.flooded(topic.format(own=apartments.flooder), qos, seconds + 60)
            with flooded if flood else nullcontext():
                delivery = await apartments.load(seconds)
                rows.append((name, delivery, apartments.memory_bytes()))
        await apartments.close()
    return rows


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="how long each flood lasts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(Path(folder) / "site", arguments.seconds))
    print("| who floods | offered | acknowledged | median | 99 % within | broker's memory |\n|---|---|---|---|---|---|")
    for name, delivery, memory in rows:
        print(
            f"| {name} | {delivery.offered} | {delivery.acknowledged} | {1000 * delivery.latency_s(50):.0f} ms "
            f"| {1000 * delivery.latency_s(99):.0f} ms | {memory / (1 << 20):.0f} MiB |"
        )


if __name__ == "__main__":
    main()
