"""Stored days of the town again, otherwise: who pays, who goes dark and who helps whom (docs/scenarios.md)."""
