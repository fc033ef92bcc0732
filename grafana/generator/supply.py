"""The dashboard *supply*: is there power, what does it cost, and who is limited?"""

from commonwatt.model.palette import PowerFlow
from grafana.generator.panel_kinds import (
    GREEN,
    ORANGE,
    RED,
    Dashboard,
    Look,
    Query,
    Section,
    graph,
    stat,
)

_PLANT = "commonwatt_utility_plant"
_LEVEL = f"max({_PLANT}_battery_joules)"
_CAPACITY = f"max({_PLANT}_capacity_joules)"
_STATE = "max by (state) (commonwatt_utility_supply_state)"
_POWER, _ENERGY = Look("watt", low=None), Look("watth")

_NOW = Section(
    "",
    [
        stat(
            "Supply",
            "The state of the regional supply, as the plant reports it. Not NORMAL: all reduce, and microgrids may be "
            "limited; the runbook of CommonwattSupplyShort says what to do.",
            Query(
                'max((commonwatt_utility_supply_state{state="NORMAL"} == 1) * 0 '
                'or (commonwatt_utility_supply_state{state="LOW"} == 1) * 1 '
                'or (commonwatt_utility_supply_state{state="CRITICAL"} == 1) * 2 '
                'or (commonwatt_utility_supply_state{state="EMPTY"} == 1) * 3)'
            ),
            look=Look(words={0: "NORMAL", 1: "LOW", 2: "CRITICAL", 3: "EMPTY"}, steps=((1, ORANGE), (2, RED))),
        ),
        stat(
            "Battery",
            "Level of the plant's battery. At the kept level it serves the public microgrid alone.",
            Query(f"{_LEVEL} / {_CAPACITY}"),
            look=Look("percentunit", decimals=0, steps=((0.2, GREEN),), base=RED, high=1),
        ),
        stat(
            "Kept",
            "Level that is kept for outages and the public microgrid: reserve_permille of the utility's settings.",
            Query(f"max({_PLANT}_kept_joules) / {_CAPACITY}"),
            look=Look("percentunit", decimals=0),
        ),
        stat(
            "Price",
            "Price of regional energy, as a multiple of the price outside peak hours.",
            Query("max(commonwatt_utility_regional_price_ratio)"),
            look=Look(decimals=2, steps=((1.01, ORANGE),)),
        ),
        stat(
            "Bought now",
            "Power from the regional grid; negative: the town sells. At the line's limit the battery serves the rest.",
            Query(f"max({_PLANT}_bought_watts)"),
            look=_POWER,
        ),
        stat(
            "Limited",
            "Microgrids with an import limit, since power is short. List them: commonwatt utility supply.",
            Query("max(commonwatt_utility_limited_microgrids)"),
            look=Look(decimals=0, steps=((1, RED),)),
        ),
        stat(
            "Last report",
            "Time since the plant's last report. Above 180 s nothing is bought: check the plant and its line.",
            Query(f"max({_PLANT}_last_seen_seconds)"),
            look=Look("s", decimals=0, steps=((180, RED),)),
        ),
        stat(
            "Purchases, 24 h",
            "Purchases planned: 96 on a day on which the plant reported all the time.",
            Query("sum(increase(commonwatt_utility_purchases_total[24h]))"),
            look=Look(decimals=0),
        ),
    ],
)

_COURSE = Section(
    "In the course of the day",
    [
        graph(
            "Level of the battery",
            "Below the kept level only the public microgrid is served from it; the line has to carry all others.",
            Query(f"{_LEVEL} / 3600", "level", PowerFlow.PLANT),
            Query(f"max({_PLANT}_kept_joules) / 3600", "kept"),
            Query(f"{_CAPACITY} / 3600", "capacity"),
            look=_ENERGY,
            width=12,
        ),
        graph(
            "Power",
            "Bought from the regional grid (negative: sold), into the battery (negative: out of it), and the line's "
            "limit. If bought stays at the limit and the battery falls, load will go short: expect rationing.",
            Query(f"max({_PLANT}_bought_watts)", "bought", PowerFlow.GRID),
            Query(f"max({_PLANT}_battery_watts)", "into the battery", PowerFlow.PLANT),
            Query(f"max({_PLANT}_line_limit_watts)", "limit of the line"),
            look=_POWER,
            width=12,
        ),
        graph(
            "Energy of the last quarter-hour",
            "Bought by order, bought for need (a purchase was too small), sold, and the town's net use. Much bought "
            "for need in dear hours is a policy or a forecast that fails.",
            Query(f"max by (kind) ({_PLANT}_quarter_joules) / 3600", "{{kind}}"),
            look=Look("watth", low=None),
            width=12,
        ),
        graph(
            "Price",
            "Price of regional energy, as a multiple of the price outside peak hours. Buy before it rises.",
            Query("max(commonwatt_utility_regional_price_ratio)", "price"),
            width=12,
        ),
        graph(
            "State of the regional supply",
            "1 for the state that the plant reports. In every state but NORMAL all places reduce.",
            Query(_STATE, "{{state}}"),
            look=Look(decimals=0, high=1),
            width=12,
        ),
        graph(
            "Microgrids with an import limit",
            "Houses are limited first, then apartments; emergency services never. It ends when supply is NORMAL.",
            Query("max(commonwatt_utility_limited_microgrids)", "limited"),
            look=Look(decimals=0, high=10),
            width=12,
        ),
    ],
)

SUPPLY = Dashboard(
    "supply",
    "Commonwatt supply",
    "Is there power, what does it cost, and who is limited?",
    [_NOW, _COURSE],
    hours=24,
)
