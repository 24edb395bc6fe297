"""Inject faults into a mediabus under load, and check with a ledger that no event was lost."""
