"""The effect of a flooding client on the other clients of its broker, and of a flooding gateway on the others.

303 meters put once a minute to a real broker and a real gateway; one more client offers 5,000 messages a second. Then
a gateway floods the utility (``benchmarks.starvation``).
"""

import asyncio
import tempfile
from contextlib import nullcontext
from pathlib import Path

from benchmarks.starvation import flooded_utility
from harness.docs.measured import Section, Table, number
from harness.network.flood import Apartments, Delivery

FLOODS: dict[str, tuple[str, int] | None] = {
    "nobody": None,
    "its own topic, QoS 1": ("cw1/r001/{own}/u/rec", 1),
    "its own topic, QoS 0": ("cw1/r001/{own}/u/lvl", 0),
    "another's topic, QoS 1": ("cw1/r001/1/u/rec", 1),
}


async def measure(folder: Path, seconds: float) -> list[tuple[str, Delivery, int]]:
    """Return for each flood the delivered puts and the broker's memory, bytes."""
    apartments = Apartments(folder)
    with apartments.site:
        await apartments.connect()
        await apartments.load(min(2, seconds))  # The one-time work of a start.
        rows = []
        for name, flood in FLOODS.items():
            topic, qos = flood or ("", 0)
            flooded = apartments.flooded(topic.format(own=apartments.flooder), qos, seconds + 60)
            with flooded if flood else nullcontext():
                delivery = await apartments.load(seconds)
                rows.append((name, delivery, apartments.memory_bytes()))
        apartments.close()
    return rows


def bench(*, smoke: bool = False) -> Section:
    """Measure each flood of a broker for 15 seconds, then one of the utility."""
    seconds = 0.2 if smoke else 15.0
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(Path(folder) / "site", seconds))
    table = Table(
        title=f"Puts of 303 meters, {number(seconds)} s each",
        columns=("who floods", "offered", "acknowledged", "median", "99 % within", "broker's memory"),
        rows=tuple(
            (
                name,
                str(delivery.offered),
                str(delivery.acknowledged),
                f"{1000 * delivery.latency_s(50):.0f} ms",
                f"{1000 * delivery.latency_s(99):.0f} ms",
                f"{memory / (1 << 20):.0f} MiB",
            )
            for name, delivery, memory in rows
        ),
    )
    of_utility, goals = flooded_utility(smoke=smoke)
    return Section(
        title="A client that floods its broker",
        about="303 apartment meters put once a minute on the embedded broker, and wait for the gateway's "
        "acknowledgement. Meanwhile another meter sends 5,000 messages of 200 bytes a second. Then gateways relay to "
        "the utility, while one of them sends different dead letters, more than its quota of a day: the service's own "
        "ingest on SQLite, from a message to its acknowledgement.",
        tables=(table, of_utility),
        goals=goals,
    )
