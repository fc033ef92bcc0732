"""The town's supply: who is limited when power is short, and how much the plant buys (pure; docs/supply.md)."""
