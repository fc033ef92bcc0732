"""What differs between two states of the dated registry, in words; and dates of it as text (pure)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from commonwatt.model.calendar import parse_time
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, Quarter
from utility.registry.accounts import Account, DatedRegistry, Installed


def parse_quarter(text: str, zone: ZoneInfo) -> Quarter:
    """Return the quarter that begins at a time; a date alone is its local midnight.

    Raises:
        ValueError: It is no such time, it is not on a quarter-hour, or its local time does not exist or exists twice.
    """
    try:
        seconds = parse_time(text, "", zone)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if seconds % QUARTER_S:
        raise ValueError(f"{text} is not on a quarter-hour (:00, :15, :30, :45)")
    return seconds // QUARTER_S


def date_text(quarter: Quarter, zone: ZoneInfo) -> str:
    """Return the begin of a quarter in local time with its offset, which ``parse_quarter`` reads."""
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).isoformat(timespec="minutes")


def date_words(quarter: Quarter, zone: ZoneInfo) -> str:
    """Return the begin of a quarter in local time for people."""
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).strftime("%-d %b %Y %H:%M %Z")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A change of one meter or account."""

    subject: str  # the meter or account, such as ``meter 10001``
    before: str  # what held before, a fact a line; empty: it is new
    after: str  # what holds afterwards

    @property
    def texts(self) -> dict[str, str]:
        """The three texts by name."""
        return {"subject": self.subject, "before": self.before, "after": self.after}

    @property
    def lines(self) -> Iterator[str]:
        """The facts that go, with a minus, and those that come, with a plus."""
        was, now = self.before.splitlines(), self.after.splitlines()
        yield from (f"- {line}" for line in was if line not in now)
        yield from (f"+ {line}" for line in now if line not in was)


def differences(before: DatedRegistry, after: DatedRegistry, zone: ZoneInfo) -> Iterator[Difference]:
    """Yield each meter and account that differs, by number."""
    for number, meter in sorted(after.meters.items()):
        known = before.meters.get(number)
        if known != meter:
            was = "" if known is None else meter_facts(known, zone)
            yield Difference(subject=f"meter {number}", before=was, after=meter_facts(meter, zone))
    for number, account in sorted(after.accounts.items()):
        listed = before.accounts.get(number)
        was = "" if listed is None else account_facts(listed, zone)
        now = account_facts(account, zone)
        # The function of an account follows from its meters, whose change stands with them.
        if was != now:
            yield Difference(subject=f"account {number}", before=was, after=now)


def meter_facts(meter: Installed, zone: ZoneInfo) -> str:
    """Return where a meter is and which accounts have it, a fact a line."""
    building = "" if meter.building is None else f", in {meter.building}"
    lines = [f"{meter.microgrid}, {meter.place}{building}{_span(meter.start, meter.end, zone)}"]
    registers = (("first", meter.first_register), ("last", meter.last_register))
    lines += [f"{which} register {value} mWh" for which, value in registers if value is not None]
    lines += [f"account {held.account}{_span(held.start, held.end, zone)}" for held in meter.holdings]
    return "\n".join(lines)


def account_facts(account: Account, zone: ZoneInfo) -> str:
    """Return the terms of an account, a fact a line."""
    lines = [f"account {account.number}"]
    for what, values in account.terms:
        lines += [f"{what} {dated.value}{_span(dated.start, None, zone)}" for dated in values]
    return "\n".join(lines)


def _span(start: Quarter | None, end: Quarter | None, zone: ZoneInfo) -> str:
    since = f" from {date_words(start, zone)}" if start else ""
    return since + ("" if end is None else f" to {date_words(end, zone)}")
