"""The message of the prices of one place: the present ones, and those of the next 24 h by the hour. Pure.

A message has at most ``MOST_BYTES``: times are minutes, and Home Assistant makes of them the list that integrations
read, by the template of the discovery message.
"""

import json
from collections.abc import Mapping, Sequence

from commonwatt.model.time.times import iso
from commonwatt.model.units import EpochSeconds
from gateway.control.rates import Stretch

IMPORT_PRICE, CREDIT_PRICE = "import_price", "credit_price"
LISTS = {IMPORT_PRICE: "import_list", CREDIT_PRICE: "credit_list"}  # the list of the message for each price
HOUR_S = 3_600
MOST_BYTES = 1_000  # most bytes of the message; a longer list ends sooner
MOST_NAMES = 8  # most names of tariffs in the message

_ATTRIBUTES = (
    "{% set v = value_json %}{% set n = namespace(rows=[]) %}"
    "{% for price in v.LIST %}{% set n.rows = n.rows + [{"
    "'start': ((v.begin + 60 * v.minutes[loop.index0]) | as_datetime).isoformat(), "
    "'end': ((v.begin + 60 * v.minutes[loop.index]) | as_datetime).isoformat(), "
    "'value': price}] %}{% endfor %}"
    "{{ {'tariff': v.tariff, 'tariffs': v.tariffs, 'period': v.period, 'until': v.until, "
    "'forecast': n.rows} | to_json }}"
)


def price_keys(topic: str, name: str) -> dict[str, str]:
    """Return what a price has in the discovery message and others have not; the list is its ``forecast``."""
    if name not in LISTS:
        return {}
    return {"stat_t": topic, "json_attr_t": topic, "json_attr_tpl": _ATTRIBUTES.replace("LIST", LISTS[name])}


def prices(tariffs: Mapping[str, Sequence[Stretch]], chosen: str | None, now: EpochSeconds) -> bytes:
    """Return the message.

    Args:
        tariffs: The present stretch of each tariff, and those after it.
        chosen: The name of the place's tariff; ``None``: the only one there is. Of several none is guessed.
    """
    name = next(iter(tariffs)) if chosen is None and len(tariffs) == 1 else chosen
    stretches = tariffs.get(name or "", ())
    present = next(iter(stretches), None)
    rows = _by_hour(stretches, now - now % HOUR_S)
    while True:
        times = [start for start, _, _ in rows] + [end for _, end, _ in rows[-1:]]
        message = {
            "tariff": None if present is None else name,
            "tariffs": list(tariffs)[:MOST_NAMES] if present is None else [],
            "period": present and present.period,
            IMPORT_PRICE: present and present.import_,
            CREDIT_PRICE: present and present.credit,
            "until": present and iso(present.end),
            "begin": times[0] if times else None,
            "minutes": [(time - times[0]) // 60 for time in times],
            LISTS[IMPORT_PRICE]: [float(stretch.import_) for _, _, stretch in rows],
            LISTS[CREDIT_PRICE]: [float(stretch.credit) for _, _, stretch in rows],
        }
        packed = json.dumps(message, separators=(",", ":")).encode()
        if len(packed) <= MOST_BYTES:
            return packed
        rows.pop()


def _by_hour(stretches: Sequence[Stretch], begin: EpochSeconds) -> list[tuple[EpochSeconds, EpochSeconds, Stretch]]:
    """Return start, end and prices of each hour from ``begin`` on; an hour in which prices change is divided."""
    rows = []
    for stretch in stretches:
        start = max(begin, stretch.start)
        while start < min(stretch.end, begin + 24 * HOUR_S):
            end = min(stretch.end, start - start % HOUR_S + HOUR_S)
            rows.append((start, end, stretch))
            start = end
    return rows
