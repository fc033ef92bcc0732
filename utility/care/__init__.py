"""The utility's side of the care of controllers: where they join, renew certificates and fetch releases."""
