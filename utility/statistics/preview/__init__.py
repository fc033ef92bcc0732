"""What a tariff would have made of a year's bills, and what the next month would bring by it."""
