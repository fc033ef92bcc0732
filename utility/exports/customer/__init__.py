"""Files for one customer: the quarter-hours of an account as Green Button XML, or as CSV for a spreadsheet."""
