"""The reference of a bill, by which its payment is found: ISO 11649, of account and month, or words (pure)."""

import re

from commonwatt.model.units import AccountNumber

_REFERENCE = re.compile(r"RF(\d\d)((\d{7})20\d\d(?:0[1-9]|1[0-2]))", re.ASCII)
_WORDS = re.compile(r"(?i)\b(?:account|konto|cuenta)\D{0,6}(\d{1,8})\b")


def rf_reference(account: AccountNumber, month: str) -> str:
    """Return the reference of an account's bill of a month: RF, check digits by mod 97-10, account, year and month."""
    body = f"{account:07}{month.replace('-', '')}"
    return f"RF{_check(body)}{body}"


def accounts_in(text: str) -> set[AccountNumber]:
    """Return the accounts that the words of a payment name; a reference with wrong check digits names none."""
    found = _REFERENCE.findall(re.sub(r"[\s.-]", "", text.upper()))
    named = {int(account) for check, body, account in found if _check(body) == check}
    return named or {int(each) for each in _WORDS.findall(text)}


def _check(body: str) -> str:
    return f"{98 - int(f'{body}271500') % 97:02}"  # 2715 are the letters RF
