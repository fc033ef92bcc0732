"""The ledger: what accounts owe, payments, reminders; each entry balanced (U2)."""
