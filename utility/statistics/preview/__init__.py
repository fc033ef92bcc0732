"""What a tariff would have made of a month's bills, and what the next month would bring by it."""
