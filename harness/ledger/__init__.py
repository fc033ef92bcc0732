"""The ledger, checked by a program that shares nothing with it; random histories of ledgers."""
