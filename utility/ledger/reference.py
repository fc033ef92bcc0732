"""The reference by which a payment finds its account: ISO 11649, or the account's number in words."""

import re

from commonwatt.model.units import AccountNumber

_REFERENCE = re.compile(r"RF\d{2}(\d{8})\d{4}")
_WORDS = re.compile(r"(?i)\b(?:account|konto|cuenta)\D{0,6}(\d{1,8})\b")


def reference(account: AccountNumber, month: str) -> str:
    """Return the reference of an account's bill of a month, such as 2026-11: RF, check digits, account, month."""
    body = f"{account:08}{month[2:4]}{month[5:7]}"
    return f"RF{98 - _value(f'{body}RF00') % 97:02}{body}"


def accounts_in(text: str) -> set[AccountNumber]:
    """Return the accounts that the words of a payment name; a reference with wrong check digits names none."""
    found = _REFERENCE.finditer(re.sub(r"[\s.-]", "", text.upper()))
    named = {int(each[1]) for each in found if _value(each[0][4:] + each[0][:4]) % 97 == 1}
    return named or {int(each) for each in _WORDS.findall(text)}


def _value(text: str) -> int:
    return int("".join(str(int(each, 36)) for each in text))
