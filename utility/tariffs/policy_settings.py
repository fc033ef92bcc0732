"""The settings of policies: each one names something that a policy's source leaves open, with its default and why."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    base_of_part_month: Literal["by_quarter", "by_day", "whole"] = Field(
        "by_quarter",
        description="The base of an account that had its meters for a part of the month: `by_quarter`, the same part "
        "of the base; `by_day`, by days, each for the account that had a meter at its end; `whole`. With the first "
        "two, two accounts that follow each other in one place pay one base.",
    )
    vacant: Literal["town", "occupied"] = Field(
        "town",
        description="The credit of a place without an account: `town`, it stays with the town; `occupied`, the others "
        "get it. With the town, nobody's credit depends on the neighbours' moving.",
    )


class _PlacesSettings(_Settings):
    farm: Literal["import", "equal"] = Field(
        "import",
        description="The solar farm's credit goes to hospital, police and fire: `import`, by their import of the "
        "month; `equal`, in equal parts. The farm was built for their use, which their imports measure.",
    )


class SpecSettings(_PlacesSettings):
    """The specification's rule: max(0, base + import - credit)."""

    name: Literal["spec"]


class AcesSettings(_PlacesSettings):
    """The rule of ACES: credit at the price outside peak hours, and a base that falls and rises by a quarter."""

    name: Literal["aces"]
    off_peak: str = Field(description="The name of the period outside peak hours.")
    credit_price: Literal["import", "credit"] = Field(
        "import",
        description="The non-peak rate of the credit: `import`, the price of import in that period; `credit`, the "
        "tariff's price of credit in it. The source's table of rates has one rate for both.",
    )
    step_of: Literal["current", "initial"] = Field(
        "current",
        description="What 25% is a part of: the `current` base, or the `initial` one, which is the tariff's. The "
        "source speaks of the customer's base bill, which is the current one.",
    )
    zero_bill: Literal["keeps", "falls"] = Field(
        "keeps",
        description="The base after a bill of exactly zero: it `keeps` its value or `falls`. The source changes it "
        "after a negative or a positive bill.",
    )


class RangersSettings(_Settings):
    """The rule of Power RAnGeRS: import and credit at the regional price, the credit for the whole microgrid."""

    name: Literal["rangers"]
    import_by: Literal["own", "evenly"] = Field(
        "own",
        description="What a unit pays: its `own` import, or the microgrid's import `evenly` split. The source charges "
        "the microgrid and splits only its credit; each unit has a meter.",
    )


PolicySettings = Annotated[SpecSettings | AcesSettings | RangersSettings, Field(discriminator="name")]
"""The table ``[policy]`` of a tariff."""

POLICY_WORDS = {"spec": "the town's", "aces": "ACES", "rangers": "Rangers"}
"""Each policy's name for people."""
