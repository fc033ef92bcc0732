"""What a controller says of the devices that it hears; it is foreign to the utility as well, and bounded."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from commonwatt.config.adapter import AdapterCommand, AdapterRule
from commonwatt.config.settings import Settings
from commonwatt.model.exceptions import ProtocolError
from commonwatt.protocol.reports import read_report

UNREADABLE = "the controller's answer can't be read"
MOST_CHARACTERS = 4_000_000  # longest text of an answer
MOST_PERCENT, MOST_WATTS, MOST_KWH = 200, 1e9, 1e12


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that can't be shown")
    return text


Name = Annotated[str, Field(max_length=256), AfterValidator(_printable)]
Key = Annotated[str, Field(max_length=512), AfterValidator(_printable)]
Counts = Annotated[list[Literal["register", "through", "generation"]], Field(max_length=3)]


def _table_of(model: type[Settings]) -> AfterValidator:
    def checked(table: dict[str, Any]) -> dict[str, Any]:
        if len(repr(table)) > 4_000:
            raise ValueError("is too long")
        model.model_validate(table)
        return table

    return AfterValidator(checked)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class CardCommand(_Part):
    """What a device may be told."""

    topic: Name = Field(description="The topic of the command.")
    ends: Literal["watchdog", "will", "none"] = Field(description="What ends it without the adapter.")
    ends_s: int | None = Field(ge=0, le=86_400, description="Within how many seconds; none: nothing ends it.")


class CardMeter(_Part):
    """The keys of the device's `[[microgrid.adapter.meter]]`."""

    preset: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    source: Name
    channel: Annotated[str, Field(max_length=64), AfterValidator(_printable)]
    at: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,32}$")] = ""


class Card(_Part):
    """A device."""

    key: Key = Field(description="Preset, source and channel of its meter.")
    title: Name = Field(description="The maker, or the name that it announces.")
    name: Name
    role: Literal["battery", "grid", "sun", "load", "unknown"] = Field(description="What it is for: a guess.")
    power_w: float | None = Field(
        ge=-MOST_WATTS, le=MOST_WATTS, description="Its power: below zero it gives; of sun always what it makes."
    )
    level_percent: float | None = Field(ge=0, le=MOST_PERCENT)
    total_kwh: float | None = Field(ge=0, le=MOST_KWH)
    age_s: int | None = Field(ge=0, le=10**9, description="Seconds since it was heard; none: it is announced alone.")
    incoming: Counts = Field(description="What its rules can measure of what comes in.")
    outgoing: Counts = Field(description="The same of what goes out.")
    meter: CardMeter
    rules: list[Annotated[dict[str, Any], _table_of(AdapterRule)]] = Field(max_length=10)
    commands: list[Annotated[dict[str, Any], _table_of(AdapterCommand)]] = Field(default_factory=list, max_length=2)
    share: CardCommand | None
    reduce: CardCommand | None
    note: Name = Field(description="What a person must know, one sentence; empty: nothing.")


class UnknownNumber(_Part):
    """A number that only rises, and that nothing reads."""

    key: Key
    topic: Name
    path: Name
    first: Annotated[str, Field(max_length=40), AfterValidator(_printable)]
    last: Annotated[str, Field(max_length=40), AfterValidator(_printable)]
    seconds: int = Field(ge=0, le=10**9)
    at: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,32}$")] = ""


class CardSource(_Part):
    """A broker of the adapter."""

    name: Name
    address: Name
    connected: bool
    complaint: Annotated[str, Field(max_length=500), AfterValidator(_printable)]


class DiscoveryAnswer(_Part):
    """What a controller hears."""

    sources: list[CardSource] = Field(default_factory=list, max_length=20)
    cards: list[Card] = Field(default_factory=list, max_length=200)
    unknown: list[UnknownNumber] = Field(default_factory=list, max_length=50)
    left_out: int = Field(0, ge=0, description="How many more there are.")
    fault: Name = Field("", description="Why there is no answer; empty: there is one.")

    @classmethod
    def of(cls, report: str) -> Self:
        """Return the answer in a report; what can't be read has a fault."""
        try:
            text = read_report(report)
            return cls.model_validate_json(text) if len(text) <= MOST_CHARACTERS else cls(fault=UNREADABLE)
        except (ProtocolError, ValidationError):
            return cls(fault=UNREADABLE)

    def tables(self) -> dict[str, Any]:
        """Return it as the keys that were given, and the lists."""
        return {"sources": [], "cards": [], "unknown": [], "left_out": 0, "fault": ""} | self.model_dump(
            exclude_unset=True
        )
