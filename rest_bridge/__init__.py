"""The REST server: turns the JSON of vendors' APIs into calls of the contract, and events back into JSON."""
