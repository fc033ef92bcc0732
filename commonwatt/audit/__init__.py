"""The audit: what was made, compared with what is stored, slot by slot."""
