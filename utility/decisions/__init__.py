"""What people decide, each in one transaction with its line in the audit log: pages, API and commands call it."""
