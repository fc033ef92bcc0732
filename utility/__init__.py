"""The utility's service: stores, completes, counts and shows what the gateways relay (K4, U1)."""
