"""People of accounts: names and addresses, encrypted at rest; places that must not be cut."""
