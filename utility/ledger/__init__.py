"""The ledger: what accounts owe, payments, reminders, instalments; each entry balanced (U2)."""
