"""Identities of devices: tokens, certificates, the authority that issues them."""
