"""The reference of a bill, by which its payment is found: ISO 11649, of account and month (pure)."""

import re

from commonwatt.model.units import AccountNumber


def rf_reference(account: AccountNumber, month: str) -> str:
    """Return the reference of an account's bill of a month: RF, check digits by mod 97-10, account, year and month."""
    body = f"{account:07}{month.replace('-', '')}"
    return f"RF{98 - int(f'{body}271500') % 97:02}{body}"  # 2715 are the letters RF


def read_reference(text: str) -> tuple[AccountNumber, str] | None:
    """Return account and month of a reference, with blanks or without; ``None``: it is none of ours."""
    text = "".join(text.split()).upper()
    found = re.fullmatch(r"RF\d\d(\d{7})(20\d\d)(0[1-9]|1[0-2])", text, re.ASCII)
    read = (int(found[1]), f"{found[2]}-{found[3]}") if found else None
    return read if read and rf_reference(*read) == text else None
