"""How people of a language read words, numbers, days and amounts (pure).

The words are a catalogue of gettext for each language (``languages/*.po``), an entry a line; English is the key.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

LANGUAGES = Path(__file__).parent / "languages"
NAMES: Mapping[str, str] = {"en": "English", "de": "Deutsch", "es": "Español"}  # of each language, in itself
NUMBERS: Mapping[str, str] = {"de": "1.234,56", "es": "1.234,56"}  # how a language writes a number, other than English
_NUMBER = re.compile(r"\d+")
_ENTRY = re.compile(r'^msgid (".+")\nmsgstr (".+")$', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How the bills and pages of an account are written."""

    language: str = "en"  # two letters
    numbers: str = "1,234.56"  # an example of a number
    currency: str = "$"  # the sign or code of the currency

    def say(self, text: str, **values: object) -> str:
        """Return a text of the program in the language, with values for its names in braces."""
        said = catalogue(self.language).get(text, text)
        return said.format(**values) if values else said

    def counted(self, text: str) -> str:
        """Return a text of the program that has whole numbers; the catalogue has ``{}`` in place of each."""
        said = catalogue(self.language).get(_NUMBER.sub("{}", text)) if self.language != "en" else None
        return text if said is None else said.format(*_NUMBER.findall(text))

    def line(self, text: str) -> str:
        """Return the text of a bill's line: its longest beginning that is known, up to a comma, in the language."""
        parts = text.split(", ")
        for count in range(len(parts), 0, -1):
            if (begin := ", ".join(parts[:count])) in catalogue(self.language):
                return ", ".join((self.say(begin), *parts[count:]))
        return text

    def number(self, text: str) -> str:
        """Return a number that is written as 1,234.56."""
        if self.numbers == DOLLARS.numbers:
            return text  # Pages have hundreds.
        return text.translate({ord(","): self.numbers[1].replace(" ", "\xa0"), ord("."): self.numbers[5]})

    def money(self, amount: Decimal | float) -> str:
        """Return an amount with its currency."""
        if self.currency == "$":
            return f"{'-' if amount < 0 else ''}${abs(amount):,.2f}"
        return f"{self.number(f'{amount:,.2f}')} {self.currency}"

    def day(self, day: date) -> str:
        """Return a date."""
        month = self.say(day.strftime("%B"))
        return self.say("{day} {month} {year}", day=str(day.day), month=month, year=str(day.year))

    def short(self, day: date, form: str = "%-d") -> str:
        """Return a day without its year, its number in a form of its own."""
        return self.say("{day} {month}", day=day.strftime(form), month=self.say(day.strftime("%B"))[:3])

    def moment(self, at: datetime) -> str:
        """Return a time."""
        return f"{self.short(at, '%d')} {at:%Y %H:%M:%S}"

    def month(self, month: str) -> str:
        """Return a month such as 2026-11 in words."""
        first = date.fromisoformat(f"{month}-01")
        return self.say("{month} {year}", month=self.say(first.strftime("%B")), year=str(first.year))


DOLLARS = Writing()  # in English and dollars: how bills are written unless a tariff or a household says it


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return the words of a language by those of English, for which there is no file."""
    text = (LANGUAGES / f"{language}.po").read_text("utf-8") if language != "en" else ""
    return {json.loads(said): json.loads(meant) for said, meant in _ENTRY.findall(text)}
