"""What calls use, what that costs, and the ledger that keeps it."""
